// The matcher of recipes/_diagnose once more, for the browser: the same patterns, the same answers (a test compares).
// What a phrase, a rule and a signal are is told there. Nothing here sends or keeps anything.

const COLOUR = /(?:\x1b|\\+(?:u001b|x1b|033)|#033|\^\[)\[[0-9;]*[A-Za-z]/g;
const ESCAPED = /\\+u([0-9A-Fa-f]{4})/g;
const NOISE = /\\+[nrt]|&(?:#[0-9A-Za-z]+|quot|apos|lt|gt|amp);/g;
const LONGEST_GAP = 80;
const MOST_LINES = 12;
const CAUSE = 60;

// What squeezing makes of a character: its lower case, or 0 for what is left out.
const squeezedCodes = new Map();
function squeezedCode(code) {
  if (!squeezedCodes.has(code)) {
    const character = String.fromCharCode(code);
    squeezedCodes.set(code, /[\p{L}\p{N}_-]/u.test(character) ? character.toLowerCase().charCodeAt(0) : 0);
  }
  return squeezedCodes.get(code);
}
const ASCII = Uint16Array.from({ length: 128 }, (_, code) => squeezedCode(code));

// A log is read once, however many phrases there are: the four characters read last lead to those that end in them.
const ENDING = 4;
const MOST_HITS = 1000;
const roll = (key, code) => ((key << 4) ^ code) & 0xffff;

function index(phrases) {
  const taken = new Uint8Array(0x10000);
  const buckets = {};
  for (const part of new Set(phrases.flatMap((phrase) => phrase.split("…")))) {
    const wanted = Uint16Array.from(part, (_, place) => part.charCodeAt(place));
    const key = wanted.slice(-ENDING).reduce(roll, 0);
    taken[key] = 1;
    (buckets[key] ??= []).push({ part, wanted });
  }
  return { taken, buckets };
}

// The first of the ascending numbers that is not below the least.
function firstFrom(numbers, least) {
  let low = 0;
  for (let high = numbers.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

class Log {
  constructor(text, { taken, buckets }) {
    this.shownText = text.replace(COLOUR, "");
    this.found = new Map();
    let read = this.shownText.replace(ESCAPED, (_, code) => String.fromCharCode(parseInt(code, 16)));
    read = read.replace(NOISE, " ");
    if (/[^\0-\x7f]/.test(read)) read = read.normalize("NFC");
    const codes = new Uint16Array(read.length);
    const awaited = taken.slice();
    const lineStarts = [0];
    let [length, key] = [0, 0];
    for (let place = 0; place < read.length; place++) {
      const code = read.charCodeAt(place);
      const squeezed = code < 128 ? ASCII[code] : squeezedCode(code);
      if (squeezed) {
        key = roll(key, squeezed);
        codes[length++] = squeezed;
        if (awaited[key] && !this.compare(codes, length, buckets[key])) awaited[key] = 0;
      } else if (code === 10) lineStarts.push(length);
    }
    this.lineStarts = lineStarts;
  }

  // Note which candidates end here; false when all of them have been found often enough.
  compare(codes, end, candidates) {
    let awaited = false;
    for (const { part, wanted } of candidates) {
      const hits = this.found.get(part);
      if (hits?.length >= MOST_HITS) continue;
      awaited = true;
      const start = end - wanted.length;
      if (start < 0) continue;
      let same = 0;
      while (same < wanted.length && codes[start + same] === wanted[same]) same++;
      if (same < wanted.length) continue;
      if (hits) hits.push(start);
      else this.found.set(part, [start]);
    }
    return awaited;
  }

  // Where a phrase begins and ends, as often as it is there.
  find(phrase) {
    const [first, ...others] = phrase.split("…");
    let spans = (this.found.get(first) ?? []).map((start) => [start, start + first.length]);
    for (const part of others) {
      const starts = this.found.get(part) ?? [];
      spans = spans.flatMap(([begin, end]) => {
        const start = starts[firstFrom(starts, end)];
        return start - end <= LONGEST_GAP ? [[begin, start + part.length]] : [];
      });
    }
    return spans;
  }

  lineNumbers([begin, end]) {
    const first = firstFrom(this.lineStarts, begin + 1) - 1;
    const last = firstFrom(this.lineStarts, end) - 1;
    return Array.from({ length: last - first + 1 }, (_, place) => first + place);
  }

  // The lines of these numbers, each text once, with the number under which it stands in the log.
  shown(numbers) {
    this.lines ??= this.shownText.split("\n");
    const texts = new Map();
    for (const number of [...numbers].sort((a, b) => a - b)) {
      const text = this.lines[number].trim();
      if (text && !texts.has(text)) texts.set(text, number);
    }
    return [...texts].slice(0, MOST_LINES).map(([text, number]) => ({ text, number }));
  }
}

function look(log, symptom, signals) {
  const met = [];
  for (const rule of symptom.rules) {
    if (rule.lacking.some((name) => signals.has(name))) continue;
    if (!rule.having.every((either) => either.some((name) => signals.has(name)))) continue;
    const spans = rule.say.flatMap((phrase) => log.find(phrase));
    if (spans.length >= rule.times) met.push({ rule, spans });
  }
  if (!met.length) return [];
  const best = met.map(({ rule }) => rule).reduce((one, other) => (other.weight > one.weight ? other : one));
  const numbers = new Set(met.flatMap(({ spans }) => spans).flatMap((span) => log.lineNumbers(span)));
  const deciding = best.having.flat().flatMap((name) => (signals.has(name) ? [signals.get(name)] : []));
  const because = new Set(deciding.flatMap((span) => log.lineNumbers(span)).filter((number) => !numbers.has(number)));
  const { id, title, question, yes, no, after } = symptom;
  const found = { id, title, question, yes, no, lines: log.shown(numbers), because: log.shown(because), sure: best.sure };
  const begin = met.flatMap(({ spans }) => spans).reduce((least, span) => Math.min(least, span[0]), Infinity);
  return [{ found, after, weight: best.weight, begin }];
}

// From patterns to a function that names what a log shows, most likely first.
// eslint-disable-next-line no-unused-vars
function makeDiagnose({ signals, symptoms }) {
  const phrases = [...Object.values(signals).flat(), ...symptoms.flatMap(({ rules }) => rules.flatMap(({ say }) => say))];
  const indexed = index(phrases);
  return (text) => {
    const log = new Log(text, indexed);
    const there = new Map();
    for (const [name, said] of Object.entries(signals)) {
      const first = said.flatMap((phrase) => log.find(phrase)).reduce((a, b) => (a && a[0] <= b[0] ? a : b), null);
      if (first) there.set(name, first);
    }
    const seen = symptoms.flatMap((symptom) => look(log, symptom, there));
    const weights = new Map(seen.map(({ found, weight }) => [found.id, weight]));
    for (const each of seen) {
      const causes = each.after.includes("*") ? [...weights.keys()] : each.after;
      const others = causes.filter((id) => weights.get(id) >= CAUSE && id !== each.found.id);
      each.rank = Math.min(each.weight, ...others.map((id) => weights.get(id) - 1));
    }
    seen.sort((one, other) => other.rank - one.rank || one.begin - other.begin);
    return seen.map(({ found }) => found);
  };
}
