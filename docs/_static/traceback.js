// The box of the start page and of the page of symptoms. What is pasted stays here: nothing is sent, nothing is kept.

const LONGEST_SHOWN = 100_000; // A text area takes seconds to lay out a log of megabytes.
const NEIGHBOURS = 1;

function make(name, properties = {}, ...children) {
  const { dataset, ...others } = properties;
  const element = Object.assign(document.createElement(name), others);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}


class Box {
  constructor(section) {
    this.page = section.dataset.page;
    this.pages = JSON.parse(section.dataset.pages);
    const patterns = JSON.parse(section.querySelector("script").textContent);
    this.symptoms = new Map(patterns.symptoms.map((symptom) => [symptom.id, symptom]));
    this.diagnose = makeDiagnose(patterns);
    this.text = "";
    this.input = make("textarea", {
      id: "traceback-input",
      rows: 6,
      spellcheck: false,
      placeholder: "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) SSL error: decryption failed or bad record mac",
    });
    this.input.setAttribute("aria-describedby", "traceback-note");
    this.note = make("p", { id: "traceback-note", className: "traceback-note" });
    this.results = make("div", { className: "traceback-results" });
    this.results.setAttribute("aria-live", "polite");
    const label = make("label", { htmlFor: "traceback-input", textContent: "A traceback, or a log of any length" });
    const file = make("input", { type: "file", id: "traceback-file", hidden: true });
    const open = make("button", { type: "button", className: "btn btn-sm", textContent: "Open a file…" });
    const clear = make("button", { type: "button", className: "btn btn-sm", textContent: "Clear" });
    section.append(label, this.input, make("div", { className: "traceback-buttons" }, open, clear, file), this.note, this.results);
    this.note.textContent = "Read in this page, and nowhere else.";

    this.input.addEventListener("input", () => this.read(this.input.value));
    this.input.addEventListener("paste", (event) => this.paste(event));
    this.input.addEventListener("dragover", (event) => event.preventDefault());
    this.input.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      this.open(event.dataTransfer.files[0]);
    });
    open.addEventListener("click", () => file.click());
    file.addEventListener("change", () => file.files.length && this.open(file.files[0]));
    clear.addEventListener("click", () => {
      this.input.value = "";
      this.read("");
      this.input.focus();
    });
    this.showLinked();
    addEventListener("hashchange", () => this.showLinked());
  }

  address(id) {
    return `${this.pages[this.symptoms.get(id).page]}#${id.toLowerCase()}`;
  }

  // "S20" in a sentence leads to S20.
  linked(sentence) {
    return sentence
      .split(/\b(S\d\d+)\b/)
      .map((part) => (this.symptoms.has(part) ? make("a", { href: this.address(part), textContent: part }) : part));
  }

  // A link with what was found, and with nothing of the log.
  showLinked() {
    const ids = new URLSearchParams(location.hash.slice(1)).get("found")?.split(",") ?? [];
    const found = ids.flatMap((id) => this.symptoms.get(id) ?? []);
    if (found.length) this.show(found.map((symptom) => ({ ...symptom, lines: [], because: [], sure: false })), "A link brought you here.");
  }

  paste(event) {
    const text = event.clipboardData.getData("text");
    if (text.length <= LONGEST_SHOWN || this.input.value) return;
    event.preventDefault();
    this.take(text);
  }

  async open(file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const utf16 = bytes[0] === 0xff && bytes[1] === 0xfe;
    this.take(new TextDecoder(utf16 ? "utf-16le" : "utf-8").decode(bytes));
  }

  // All of it is read; the text area shows the beginning.
  take(text) {
    const cut = text.length > LONGEST_SHOWN;
    this.input.value = cut ? `${text.slice(0, LONGEST_SHOWN)}\n… (the rest was read, and is not shown)` : text;
    this.read(text);
  }

  read(text) {
    this.text = text;
    if (!text.trim()) return this.show([], "Read in this page, and nowhere else.");
    const began = performance.now();
    const found = this.diagnose(text);
    const took = performance.now() - began;
    const lines = text.split("\n").length;
    const read = `${lines.toLocaleString("en")} ${lines === 1 ? "line" : "lines"} read in ${Math.ceil(took)} ms.`;
    const nothing = "Nothing here that this site knows: no line matches a symptom. It may be an ordinary error, with a cause of its own.";
    this.show(found, found.length ? read : `${read} ${nothing}`);
  }

  show(found, note) {
    this.note.textContent = note;
    this.results.replaceChildren();
    if (!found.length) return;
    const list = make("ol", {}, ...found.map((finding) => this.result(finding)));
    const share = make("a", {
      href: `${this.page}#found=${found.map(({ id }) => id).join(",")}`,
      textContent: "A link to this answer",
    });
    this.results.append(list, make("p", { className: "traceback-share" }, share, " (it holds the names of the symptoms, and nothing of the log)"));
  }

  result({ id, title, lines, because, sure, question, yes, no }) {
    const name = make("a", { href: this.address(id) }, make("span", { className: "symptom-id", textContent: id }), ` ${title}`);
    const item = make("li", { dataset: { symptom: id } }, make("p", { className: "traceback-symptom" }, name));
    if (lines.length) item.append(this.context(lines));
    if (sure && because.length) {
      item.append(make("p", {}, "Told from its twin by: ", make("code", { textContent: because[0].text })));
    } else if (question) item.append(this.question(question, { yes, no }));
    return item;
  }

  // The matched lines with their neighbours, as they stand in the log.
  context(lines) {
    const all = (this.split = this.splitText === this.text ? this.split : this.text.split("\n"));
    this.splitText = this.text;
    const matched = new Set(lines.map(({ number }) => number));
    const shown = make("pre", { className: "traceback-lines", tabIndex: 0 });
    let last = -1;
    for (const number of [...matched].flatMap((n) => [n - NEIGHBOURS, n, n + NEIGHBOURS]).sort((a, b) => a - b)) {
      if (number <= last || number < 0 || number >= all.length) continue;
      if (last >= 0 && number > last + 1) shown.append(make("span", { className: "traceback-gap", textContent: "…\n" }));
      const text = `${String(number + 1).padStart(5)}  ${all[number].replace(COLOUR, "").trimEnd().slice(0, 600)}\n`;
      shown.append(matched.has(number) ? make("mark", { textContent: text }) : text);
      last = number;
    }
    return shown;
  }

  question(question, answers) {
    const asked = make("div", { className: "traceback-question" }, make("p", { textContent: question }));
    const reply = make("p", { className: "traceback-reply" });
    reply.setAttribute("aria-live", "polite");
    for (const [name, meaning] of Object.entries(answers)) {
      const button = make("button", { type: "button", className: "btn btn-sm", textContent: name === "yes" ? "Yes" : "No" });
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        for (const each of asked.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button));
        reply.replaceChildren(...this.linked(meaning));
      });
      asked.append(button);
    }
    asked.append(reply);
    return asked;
  }
}

for (const section of document.querySelectorAll("section.traceback")) new Box(section);
