// Where an error was thrown, by the author's own files and lines. A component holds one bundle, so the
// build leaves its source map (version 3, `sources` and `mappings`) for this.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Frames of the author's code, outermost last: `handle (handler.ts:12:9)`. */
export function frames(error, map) {
  const lines = map === undefined ? [] : decode(map.mappings);
  return String(error?.stack ?? "")
    .split("\n")
    .map((frame) => place(frame, lines, map))
    .filter((frame) => frame !== undefined);
}

/** SpiderMonkey writes `name@file:line:column`. */
function place(frame, lines, map) {
  const [, name, line, column] = /^(.*?)@.*?:(\d+):(\d+)$/.exec(frame) ?? [];
  if (line === undefined) return undefined;
  const segments = lines[line - 1] ?? [];
  const segment = segments.findLast(([at]) => at <= column - 1);
  // the SDK's own files have no name
  if (segment === undefined || map.sources[segment[1]] === null) return undefined;
  const at = `${map.sources[segment[1]]}:${segment[2] + 1}:${segment[3] + 1}`;
  return name === "" ? at : `${name} (${at})`;
}

/** Per line of the bundle: `[column, source, line, column]`, all counted from 0. */
function decode(mappings) {
  const last = [0, 0, 0, 0];
  return mappings.split(";").map((line) => {
    last[0] = 0;
    const segments = line === "" ? [] : line.split(",").map((segment) => {
      numbers(segment).slice(0, 4).forEach((delta, field) => (last[field] += delta));
      return [...last];
    });
    return segments;
  });
}

/** Base64 digits of 5 bits each, the least significant first; the lowest bit of all is the sign. */
function numbers(segment) {
  const found = [];
  let value = 0;
  let shift = 0;
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit);
    value |= (bits & 31) << shift;
    if (bits & 32) {
      shift += 5;
    } else {
      found.push(value & 1 ? -(value >>> 1) : value >>> 1);
      value = shift = 0;
    }
  }
  return found;
}
