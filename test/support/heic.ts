// HEIC pictures for tests, put together from the one frame of an HEVC film: whole, turned, of tiles, with a thumbnail.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { makeFilm } from "./film.ts";

const word = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const short = (value: number): Buffer => word(value).subarray(2);
const box = (type: string, ...content: Uint8Array[]): Buffer => {
  const body = Buffer.concat(content);
  return Buffer.concat([word(8 + body.length), Buffer.from(type, "latin1"), body]);
};
const fullBox = (type: string, version: number, ...content: Uint8Array[]): Buffer =>
  box(type, word(version << 24), ...content);

/** The configuration and the coded bytes of a single HEVC frame. */
async function frameOf(path: string, graph: string): Promise<{ hvcC: Buffer; data: Buffer }> {
  const film = `${path}.mp4`;
  await makeFilm(film, {
    graph: `${graph},trim=end_frame=1,format=yuv420p`,
    encoder: "libx265",
    encoderOptions: { crf: "8", "x265-params": "log-level=none:bframes=0:keyint=1:pools=none:frame-threads=1" },
  });
  const bytes = readFileSync(film);
  rmSync(film);
  const boxAt = (type: string) => {
    const at = bytes.indexOf(type, 0, "latin1") - 4;
    return bytes.subarray(at, at + bytes.readUInt32BE(at));
  };
  return { hvcC: boxAt("hvcC"), data: boxAt("mdat").subarray(8) };
}

export interface HeicOptions {
  /** A film whose first frame is the picture. */
  graph: string;
  width: number;
  height: number;
  /** Quarter turns against the clock that the picture is to be shown with. */
  turns?: number;
  /** The type that the first item claims; `grid` for one put together of the coded frame. */
  type?: "hvc1" | "grid";
  /** A second item before it, which is not the one to show. */
  thumbnail?: { graph: string; width: number; height: number };
  brand?: string;
}

export async function makeHeic(path: string, options: HeicOptions): Promise<void> {
  const { turns = 0, type = "hvc1", brand = "heic" } = options;
  const shown = { ...(await frameOf(path, options.graph)), ...options };
  const small = options.thumbnail && { ...(await frameOf(path, options.thumbnail.graph)), ...options.thumbnail };
  const coded = small ? [small, shown] : [shown];
  const types = coded.map((item) => (item === shown ? type : "hvc1"));
  const properties = coded.flatMap(({ hvcC, width, height }) => [
    hvcC,
    fullBox("ispe", 0, word(width), word(height)),
    box("irot", Buffer.from([turns])),
  ]);
  const associations = coded.map((_, i) =>
    Buffer.concat([short(i + 1), Buffer.from([3, 0x80 | (3 * i + 1), 3 * i + 2, 0x80 | (3 * i + 3)])]),
  );
  const meta = (dataAt: number): Buffer => {
    let at = dataAt;
    const places = coded.map(({ data }, i) => {
      const place = Buffer.concat([short(i + 1), short(0), short(1), word(at), word(data.length)]);
      at += data.length;
      return place;
    });
    return fullBox(
      "meta",
      0,
      fullBox("hdlr", 0, word(0), Buffer.from("pict"), Buffer.alloc(13)),
      fullBox("pitm", 0, short(coded.length)),
      fullBox("iloc", 0, Buffer.from([0x44, 0]), short(coded.length), ...places),
      fullBox(
        "iinf",
        0,
        short(coded.length),
        ...types.map((name, i) => fullBox("infe", 2, short(i + 1), short(0), Buffer.from(`${name}\0`, "latin1"))),
      ),
      box("iprp", box("ipco", ...properties), fullBox("ipma", 0, word(coded.length), ...associations)),
    );
  };
  const ftyp = box("ftyp", Buffer.from(brand, "latin1"), word(0), Buffer.from("mif1heic", "latin1"));
  const length = ftyp.length + meta(0).length + 8;
  writeFileSync(path, Buffer.concat([ftyp, meta(length), box("mdat", ...coded.map(({ data }) => data))]));
}
