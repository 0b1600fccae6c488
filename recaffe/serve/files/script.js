// Sends each picture by itself, so that answers come one by one and one bad file spoils no other.
const $ = (id) => document.getElementById(id);
const AT_ONCE = 2; // requests
const RETRIES = 5; // where the server is busy or asks to wait
const TOP = 5;
const cards = new Set();
const waiting = [];
let running = 0;
let model = null;
let judged = false; // the threshold is the reader's own

const percent = (p) => `${(100 * p).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} %`;
const mib = (bytes) => `${(bytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = text;
  $("messages").append(line);
}

async function begin() {
  try {
    const answer = await fetch("api/model");
    model = await answer.json();
    if (!answer.ok) throw new Error(model.error);
  } catch (error) {
    complain(`The server doesn't answer: ${error.message}`);
    return;
  }
  const title = model.title || model.dataset || "recaffe";
  $("title").textContent = document.title = title;
  const test = model.metrics && Number.isFinite(model.metrics.top1)
    ? `; ${percent(model.metrics.top1)} of ${model.metrics.n} test pictures right` : "";
  const net = model.net ? `${model.net}, ` : "";
  $("about").textContent = `${net}${model.labels.length} classes${test}`;
  if (!judged) $("threshold").value = Math.round(100 * model.threshold);
  judge();
  $("heat-label").hidden = !model.heat_maps;
}

function add(files) {
  $("messages").replaceChildren();
  for (const file of files) {
    if (model && file.size > model.limits.bytes) {
      complain(`${file.name}: ${mib(file.size)}; this server takes up to ${mib(model.limits.bytes)}.`);
      continue;
    }
    const card = make(file);
    cards.add(card);
    $("results").append(card.element);
    ask(card);
  }
  $("clear").hidden = cards.size === 0;
}

function make(file) {
  const element = $("card").content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector(`.${name}`);
  const card = { file, element, part, url: URL.createObjectURL(file), answer: null };
  part("name").textContent = file.name;
  part("picture").src = card.url;
  part("picture").alt = file.name;
  // Browsers can't show all that the net can read, such as TIFF.
  part("picture").addEventListener("error", () => { part("picture").hidden = true; }, { once: true });
  return card;
}

function ask(card) {
  card.element.classList.add("busy");
  card.element.setAttribute("aria-busy", "true");
  waiting.push(card);
  go();
}

function go() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    const card = waiting.shift();
    classify(card).finally(() => {
      running -= 1;
      card.element.classList.remove("busy");
      card.element.removeAttribute("aria-busy");
      if (!running && !waiting.length) summarise();
      go();
    });
  }
  if (running) say(`Classifying, ${running + waiting.length} to go …`);
}

async function classify(card) {
  if (!cards.has(card)) return;
  try {
    const { ok, body } = await send(card.file, $("heat").checked && model?.heat_maps);
    const answer = body.results?.[0] ?? {};
    if (ok && !answer.error) {
      card.answer = answer;
      show(card);
    } else {
      fail(card, answer.error ?? body.error);
    }
  } catch (error) {
    fail(card, `The server doesn't answer: ${error.message}`);
  }
}

async function send(file, heat) {
  for (let tried = 0; ; tried += 1) {
    const form = new FormData();
    form.append("files", file, file.name);
    const answer = await fetch(`api/predict?top_k=${TOP}&heat_map=${Boolean(heat)}`, { method: "POST", body: form });
    if ((answer.status === 429 || answer.status === 503) && tried < RETRIES) {
      await sleep(Number(answer.headers.get("Retry-After")) || 1);
      continue;
    }
    return { ok: answer.ok, body: await answer.json() };
  }
}

function show(card) {
  const { answer, part } = card;
  part("class").textContent = answer.predicted;
  part("bars").replaceChildren(...answer.top.map((row) => bar(row.class, row.p)));
  if (answer.heat_map) {
    part("heat").src = answer.heat_map;
    part("heat").alt = `Where the net looked for ${answer.predicted} in ${card.file.name}`;
  }
  look(card);
  mark(card);
}

function bar(name, p) {
  const row = document.createElement("li");
  for (const [kind, text] of [["label", name], ["p", percent(p)], ["track", ""]]) {
    const cell = document.createElement("span");
    cell.className = kind;
    cell.textContent = text;
    row.append(cell);
  }
  const filled = document.createElement("span");
  filled.className = "bar";
  filled.style.width = `${100 * p}%`;
  row.lastElementChild.setAttribute("aria-hidden", "true");
  row.lastElementChild.append(filled);
  return row;
}

function fail(card, reason) {
  card.part("error").textContent = reason;
  card.part("error").hidden = false;
  card.part("best").hidden = true;
}

function mark(card) {
  if (!card.answer) return;
  const unsure = card.answer.confidence < $("threshold").value / 100;
  card.part("badge").hidden = !unsure;
  card.element.classList.toggle("unsure", unsure);
}

function judge() {
  const text = `${$("threshold").value} %`;
  $("shown").textContent = text;
  $("threshold").setAttribute("aria-valuetext", text);
  cards.forEach(mark);
}

// The map lies over what the net saw: the picture as it was resized and cropped.
function look(card) {
  const heat = $("heat").checked && Boolean(card.answer?.heat_map);
  card.part("heat").hidden = !heat;
  card.part("picture").hidden = heat || (card.part("picture").complete && !card.part("picture").naturalWidth);
}

function summarise() {
  const answers = [...cards].filter((card) => card.answer);
  if (cards.size === 1 && answers.length === 1) {
    const { predicted, confidence } = answers[0].answer;
    say(`${answers[0].file.name}: ${predicted}, ${percent(confidence)}`);
  } else {
    say(cards.size ? `${answers.length} of ${cards.size} pictures classified` : "");
  }
}

$("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("threshold").addEventListener("input", () => {
  judged = true;
  judge();
});
$("heat").addEventListener("change", () => {
  $("legend").hidden = !$("heat").checked;
  for (const card of cards) {
    look(card);
    if ($("heat").checked && card.answer && !card.answer.heat_map) ask(card);
  }
});
$("clear").addEventListener("click", () => {
  for (const card of cards) {
    URL.revokeObjectURL(card.url);
    card.element.remove();
  }
  cards.clear();
  waiting.length = 0;
  $("messages").replaceChildren();
  $("clear").hidden = true;
  say("");
  $("files").focus();
});
let depth = 0; // dragenter and dragleave come for each element that is passed
addEventListener("dragenter", () => { depth += 1; document.body.classList.add("over"); });
addEventListener("dragleave", () => { depth -= 1; if (!depth) document.body.classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) add([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add([...event.clipboardData.files]);
});
begin();
