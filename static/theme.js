// Colour theme: system, light or dark. A classic script, because a module would run after the first paint.
(() => {
  const KEY = "sam-droplet-theme";
  const NEXT = { system: "light", light: "dark", dark: "system" };

  const stored = () => {
    try {
      return localStorage.getItem(KEY) ?? "system";
    } catch {
      return "system"; // storage is blocked: follow the system
    }
  };

  const apply = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };

  const label = (button, theme) => {
    button.title = `Colour theme: ${theme}`;
    button.setAttribute("aria-label", `Colour theme: ${theme}. Press to change`);
  };

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    let theme = stored();
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      label(button, theme);
      button.addEventListener("click", () => {
        theme = NEXT[theme] ?? "system";
        try {
          localStorage.setItem(KEY, theme);
        } catch {
          // Storage is blocked: the theme lasts for this page only.
        }
        apply(theme);
        label(button, theme);
        window.dispatchEvent(new Event("themechange"));
      });
    }
  });
})();
