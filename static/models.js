// Which ways of searching there are on this server; MobileSAM's need its weights. Pure.

// models: as /api/models answers.
export function modesOf({ models }) {
  const answers = models.filter(({ available }) => available).flatMap((model) => model.answers);
  return ["droplets", ...["refined", "everything"].filter((mode) => answers.includes(mode))];
}
