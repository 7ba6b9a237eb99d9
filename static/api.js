// The one module that talks to the server. Every failure arrives as an ApiError whose message can be shown as it is.

const root = document.body.dataset.root ?? "";
const HEADERS = { "X-SAM-Droplet": "1", Accept: "application/json" };
export const UNREACHABLE = "The server cannot be reached. Check that it is running and that you are connected.";

const UNREADABLE =
  "The browser cannot read this. If it is a folder, drop or choose the images in it; if it was moved or changed since, choose it again.";

class ApiError extends Error {
  constructor(message, { status = 0, code = "network", retryAfterS = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }

  // True where the same request may well succeed later: no connection, overload, a restart, a new login.
  get isTemporary() {
    return this.status === 0 || this.status === 401 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

function errorFrom(status, statusText, body, retryAfter) {
  const message = body?.error ?? `The server answered ${status} ${statusText}`.trim() + ".";
  const seconds = Number(retryAfter);
  return new ApiError(message, {
    status,
    code: body?.code ?? "http",
    retryAfterS: Number.isFinite(seconds) && seconds > 0 ? seconds : null,
  });
}

async function send(method, path, { json, signal, keepalive, etag } = {}) {
  const headers = { ...HEADERS };
  if (etag) headers["If-None-Match"] = etag;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(root + path, {
      method,
      headers,
      signal,
      keepalive,
      body: json === undefined ? undefined : JSON.stringify(json),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
  if (response.ok || response.status === 304) return response;
  const body = await response.json().catch(() => null);
  throw errorFrom(response.status, response.statusText, body, response.headers.get("Retry-After"));
}

async function sendForJson(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}

const imagePath = (id) => `/api/images/${encodeURIComponent(id)}`;

// A page that shares one image reads from an address of its own.
const shared = document.body.dataset.shared;
const readPath = (id) => (shared ? shared.slice(root.length) : imagePath(id));

export const getShares = (id) => sendForJson("GET", `${imagePath(id)}/share`);
export const makeShare = (id) => sendForJson("POST", `${imagePath(id)}/share`);
export const withdrawShares = (id) => sendForJson("DELETE", `${imagePath(id)}/share`);

export const listImages = async () => (await sendForJson("GET", "/api/images")).images;
export const deleteImage = (id) => sendForJson("DELETE", imagePath(id));
export const openSample = async (name) =>
  (await sendForJson("POST", `/api/samples/${encodeURIComponent(name)}`)).images[0];
export const getModels = () => sendForJson("GET", "/api/models");

export const getAnnotation = (id) => sendForJson("GET", `${readPath(id)}/annotation`);
export const patchAnnotation = (id, patch, { keepalive = false } = {}) =>
  sendForJson("PATCH", `${imagePath(id)}/annotation`, { json: patch, keepalive });
export const findDroplets = (id, options, signal) =>
  sendForJson("POST", `${imagePath(id)}/find`, { json: { options }, signal });
export const predict = (id, prompt, signal) =>
  sendForJson("POST", `${imagePath(id)}/predict`, { json: prompt, signal });

const assayPath = (id, name) => `${imagePath(id)}/assays/${encodeURIComponent(name)}`;
export const getAssays = (id) => sendForJson("GET", `${readPath(id)}/assays`);
export const setAssay = (id, name, settings) => sendForJson("PUT", assayPath(id, name), { json: settings });
export const removeAssay = (id, name) => sendForJson("DELETE", assayPath(id, name));
export const getReport = (id) => sendForJson("GET", `${readPath(id)}/report`);
export const openPage = async (id, page) =>
  (await sendForJson("POST", `${imagePath(id)}/pages/${Number(page)}`)).image;
export const getObjectives = () => sendForJson("GET", "/api/objectives");
export const saveObjective = (name, umPerPx) =>
  sendForJson("POST", "/api/objectives", { json: { name, um_per_px: umPerPx } });
export const deleteObjective = (name) => sendForJson("DELETE", `/api/objectives?name=${encodeURIComponent(name)}`);
export const getPresets = async (id) => (await sendForJson("GET", `${imagePath(id)}/presets`)).presets;

// Puts drawn outlines [[[x, y], …], …] in the place of droplets.
export const redrawDroplets = (id, contours, replaces) =>
  sendForJson("POST", `${imagePath(id)}/redraw`, { json: { contours, replaces } });

// Has the server look at an image now, so that finding needs not wait for it later; outlives the page.
export const lookAhead = (id) => fetch(`${root}${imagePath(id)}/proposals`, { keepalive: true }).catch(() => {});

// The outlines that clicks are answered from, as one Float32Array; proposals.js reads it.
export async function getProposals(id) {
  const response = await send("GET", `${imagePath(id)}/proposals`);
  return new Float32Array(await response.arrayBuffer());
}

// Fetches an export as {blob, filename}; the name is the server's.
export async function fetchExport(id, format) {
  const response = await send("GET", `${readPath(id)}/export/${encodeURIComponent(format)}`);
  return {
    blob: await response.blob(),
    filename: filenameFrom(response.headers.get("Content-Disposition")) ?? `droplets.${format}`,
  };
}

export function filenameFrom(disposition) {
  if (!disposition) return null;
  const extended = /filename\*=UTF-8''([^;]+)/i.exec(disposition);
  if (extended) return decodeURIComponent(extended[1]);
  return /filename="?([^";]+)"?/i.exec(disposition)?.[1] ?? null;
}

// Refuses a file that the server would refuse, in its words, before all of it is on the way.
function checkSize({ size }) {
  const { mostBytes, tooLarge } = document.body.dataset;
  if (size <= Number(mostBytes)) return;
  throw new ApiError(tooLarge.replace("#", (size / 2 ** 20).toFixed(1)), { status: 413, code: "too_large" });
}

// A folder, or a file that was moved or changed since it was chosen, ends a request as a lost connection does.
const isReadable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

// Uploads one file. XMLHttpRequest, because fetch does not tell how many bytes have left.
export async function uploadImage(file, onProgress) {
  checkSize(file);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${root}/api/images`);
    for (const [name, value] of Object.entries(HEADERS)) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("error", async () => reject(new ApiError((await isReadable(file)) ? UNREACHABLE : UNREADABLE)));
    request.addEventListener("load", () => {
      const body = request.response;
      if (request.status === 201 && body?.images?.length) resolve(body.images);
      else {
        const failure = body?.errors?.[0] ?? body;
        reject(errorFrom(request.status, request.statusText, failure, request.getResponseHeader("Retry-After")));
      }
    });
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}

const jobPath = (id) => `/api/jobs/${encodeURIComponent(id)}`;

// crypto.randomUUID is missing where a lab's server is reached without HTTPS.
export const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// A request that was sent twice under one key, because its answer got lost, starts one job.
export const startJob = (imageIds, options, key) =>
  sendForJson("POST", "/api/jobs", { json: { kind: "batch", image_ids: imageIds, options, idempotency_key: key } });
export const startFind = (imageId, options, key) =>
  sendForJson("POST", "/api/jobs", { json: { kind: "find", image_ids: [imageId], options, idempotency_key: key } });
export const cancelJob = (id) => sendForJson("POST", `${jobPath(id)}/cancel`);
export const retryJob = (id) => sendForJson("POST", `${jobPath(id)}/retry`);
export const watchJob = (id) => new EventSource(`${root}${jobPath(id)}/events`);

// A job with its items as {body, etag}; the body is null where nothing changed since the etag.
export async function getJob(id, etag) {
  const response = await send("GET", jobPath(id), { etag });
  return { body: response.status === 304 ? null : await response.json(), etag: response.headers.get("ETag") };
}
