// Hear the daemon: server-sent events over fetch, which can carry the token where reading needs it.
const DEAF_MS = 12_000; // beats come every 3 s: a line that is dead for longer is given up
const PAUSE_MS = 2_000;
let token = "";
let again = () => {};

export function knows(text) { token = text; again(); }
export const ask = (path, options = {}) => fetch(path, { ...options, headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...options.headers } });

// on.message(kind, values), on.open(), on.lost(), on.refused(status, why)
export async function hear(on) {
  for (;;) {
    try { await once(on); } catch { /* the line broke: it is told, and tried again */ }
    on.lost();
    await new Promise((done) => { again = done; setTimeout(done, PAUSE_MS); });
  }
}
async function once(on) {
  const given_up = new AbortController();
  let watch = setTimeout(() => given_up.abort(), DEAF_MS);
  try {
    const answer = await ask("/api/events", { signal: given_up.signal, cache: "no-store" });
    if (!answer.ok) {
      let why = "";
      try { why = (await answer.json()).why; } catch { /* a proxy may answer in its own words */ }
      on.refused(answer.status, why);
      return;
    }
    on.open();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(() => given_up.abort(), DEAF_MS);
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) message(part, on);
    }
  } finally { clearTimeout(watch); }
}
function message(part, on) {
  let kind = "", data = "";
  for (const line of part.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (kind && data) on.message(kind, JSON.parse(data));
}
