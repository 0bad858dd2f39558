// Commands to the daemon: unlocked by the token, confirmed, and shown with what the engine answered.
import { at, h, say, show } from "./dom.js";
import { ask, knows } from "./hear.js";
import { count, instant, words } from "./words.js";

const COMMANDS = {
  pause: ["Pause", "Take no new risk: hold what is held and take back orders that would open. It lasts until Resume, over restarts too."],
  resume: ["Resume", "End pause, reduce-only, flattening and a halt; the daemon trades on once it has compared the account."],
  reduce_only: ["Reduce only", "Decide on, but allow only what lessens positions. It lasts until Resume."],
  reload: ["Reload", "Read the settings files again. Only limits, execution and live.foreign may change; otherwise nothing is taken."],
  flatten: ["Flatten", "Close every position, both sides in step, and then hold nothing until Resume. This sends orders."],
  kill: ["Kill", "Send nothing more and take back what rests. Positions stay open. No order is sent until Resume clears the halt latch."],
};
const GRAVE = ["flatten", "kill"];
let token = ""; // lives as long as the page is open, and nowhere else
let states = {};
let wanted = null;

export function control(facts, known) {
  states = known;
  const on = facts.takes_commands;
  show("unlock", on && !token);
  show("buttons", on && Boolean(token));
  say("control-note", on ? "every command is journalled and answered by the engine" : "");
  if (!on) {
    token = "";
    show("buttons", false);
    at("answer").replaceChildren(h("p", { text: "Commands are off: no token is set. Name one with web.token_file or web.token_env and start the daemon again; `equipoise pause` and the others work on the machine itself." }));
  } else if (!token && !at("answer").dataset.told) at("answer").replaceChildren();
}

function post(path, body) {
  return ask(path, { method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${token}` }, body: JSON.stringify(body) });
}
// Reading needs the token: nothing is known yet, not even whether commands are on.
export function locked(why) {
  if (token) { token = ""; knows(""); }
  show("unlock", true);
  show("buttons", false);
  say("unlock-note", why);
}
const whyOf = async (answer) => { try { return (await answer.json()).why; } catch { return `the page answered ${answer.status}`; } };

at("unlock").addEventListener("submit", async (e) => {
  e.preventDefault();
  token = at("token").value.trim();
  say("unlock-note", "");
  if (!/^[\x21-\x7e]+$/.test(token)) { token = ""; say("unlock-note", "a token has no blanks and only plain letters, digits and signs"); return; }
  try {
    const answer = await post("/api/token", {});
    if (answer.ok) { at("token").value = ""; show("unlock", false); show("buttons", true); knows(token); at("buttons").querySelector("button").focus(); return; }
    say("unlock-note", await whyOf(answer));
  } catch { say("unlock-note", "the page cannot be reached"); }
  token = "";
});

at("buttons").replaceChildren(...Object.entries(COMMANDS).map(([action, [title]]) => h("button", {
  type: "button", class: GRAVE.includes(action) ? "grave" : "", text: title, "data-action": action, on: { click: () => sure(action) },
})), h("button", { type: "button", text: "Lock", on: { click: () => location.reload() } })); // the token lives in the page alone

function requestId() {
  return `page-${[...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("")}`;
}
function sure(action, request_id = requestId()) {
  const clears = action === "resume" && states.status?.trading_state === "halted";
  wanted = { action, request_id, clear_latch: clears };
  const said = action.replace("_", "-"), typed = GRAVE.includes(action) || clears;
  say("sure-title", `${COMMANDS[action][0]}?`);
  say("sure-text", COMMANDS[action][1] + (clears ? " The halt latch is taken away." : ""));
  show("sure-word", typed);
  say("sure-said", said);
  at("word").value = "";
  at("sure-yes").disabled = typed;
  at("word").oninput = () => { at("sure-yes").disabled = typed && at("word").value.trim() !== said; };
  at("sure-yes").textContent = COMMANDS[action][0];
  at("sure-yes").className = GRAVE.includes(action) ? "grave" : "";
  at("sure").showModal();
  (typed ? at("word") : at("sure-no")).focus();
}
at("sure-no").addEventListener("click", () => { wanted = null; at("sure").close(); });
at("sure-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const asked = { ...wanted, word: at("word").value.trim() };
  at("sure").close();
  tell("", `${COMMANDS[asked.action][0]}: waiting for the engine`);
  try {
    const answer = await post("/api/command", asked);
    if (answer.ok) answered(asked, await answer.json());
    else tell("bad", `${COMMANDS[asked.action][0]} refused: ${await whyOf(answer)}`);
  } catch {
    tell("bad", `${COMMANDS[asked.action][0]}: the connection was lost; whether it was taken is unknown. Asking again is safe: it counts once.`, () => sure(asked.action, asked.request_id));
  }
});
function answered(asked, told) {
  const a = told.answer, title = COMMANDS[asked.action][0];
  if (!a) {
    const grave = asked.action === "kill" ? " The halt latch is set all the same: no order is sent while it is." : "";
    tell("bad", `${title}: the daemon has not answered within 10 s. The request waits as ${told.request_id}.${grave}`, () => sure(asked.action, asked.request_id));
  } else if (!a.obeyed) tell("bad", `${title} refused: ${a.why}`);
  else {
    const stand = [words(a.trading), a.paused ? "paused" : "", a.flattening ? "flattening" : "", a.halted_why].filter(Boolean).join(", ");
    tell("good", `${title} acknowledged at ${instant(a.at_ms)} (market time): ${stand}; ${count(a.orders_open_n)} orders open, ${count(a.positions_n)} positions held. ${a.note || ""}`);
  }
}
function tell(cls, text, again = null) {
  at("answer").dataset.told = "yes";
  at("answer").replaceChildren(h("p", { class: cls }, text, again ? h("button", { type: "button", text: "Ask again", on: { click: again } }) : null));
}
