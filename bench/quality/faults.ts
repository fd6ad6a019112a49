// How clean clips are spoiled: one recipe of FFmpeg filters or encoder settings a fault, at three strengths.

export const strengths = ["weak", "middle", "strong"] as const;
export type Strength = (typeof strengths)[number];

/** The clip a recipe is for. Blurs, noise and the like are given for 832 pixels across and grow with the clip. */
export interface Frame {
  width: number;
  height: number;
  fps: number;
  /** Counts the clips of a run, so that no two need have the same watermark. */
  index: number;
}

export interface Recipe {
  /** Encoder arguments of a film that is made before, and spoiled by it. */
  before?: readonly string[];
  filters: string;
  /** Encoder arguments where the encoder is the fault; else the film is encoded so that nothing is lost. */
  encoder?: readonly string[];
  ending?: ".avi";
}

export interface Fault {
  name: string;
  /** Reasons or findings any of which names it. */
  named: readonly string[];
  /** Bars must come off instead of being named: the share of the picture that is left. */
  content?: (strength: number) => { width: number; height: number };
  recipe(strength: number, frame: Frame): Recipe;
}

function filtered(
  name: string,
  named: readonly string[],
  values: readonly [number, number, number],
  filters: (value: number, frame: Frame) => string,
): Fault {
  return { name, named, recipe: (strength, frame) => ({ filters: filters(values[strength]!, frame) }) };
}

function encoded(
  name: string,
  named: readonly string[],
  options: readonly [string, string, string],
  more: Omit<Recipe, "filters" | "encoder"> = {},
): Fault {
  return { name, named, recipe: (strength) => ({ filters: "null", encoder: options[strength]!.split(" "), ...more }) };
}

const scaled = (value: number, { width }: Frame) => ((value * width) / 832).toFixed(2);
const whole = (value: number, { width }: Frame) => Math.max(1, Math.round((value * width) / 832));

/** A line of text; white with `alpha`. `place`: x and y. */
const text = (words: string, size: number, alpha: number, place: string) =>
  `drawtext=text='${words}':fontsize=${Math.round(size)}:fontcolor=white@${alpha}:${place}`;

/** Where each clip's own watermark stands, and what it says. */
function ownMark({ index, height }: Frame, alpha: number): string {
  const words = ["stock 4821", "@lena.film", "PREVIEW", "tv one", "sample", "Kanal 7", "www.clips.example", "REC"];
  const corners = [
    "x=w*0.04:y=h*0.06",
    "x=w*0.96-tw:y=h*0.06",
    "x=w*0.04:y=h*0.9-th",
    "x=w*0.96-tw:y=h*0.9-th",
    "x=(w-tw)/2:y=h*0.45",
  ];
  return text(words[index % words.length]!, height * 0.062, alpha, corners[index % corners.length]!);
}

const soft = ["sharpness-low", "motion-blur-high"];
const smeared = ["quantizer-high", "compression-high", "blockiness-high", "banding-high", "sharpness-low"];

export const faults: readonly Fault[] = [
  filtered("soft focus", soft, [1, 2, 2.8], (sigma, frame) => `gblur=sigma=${scaled(sigma, frame)}`),
  filtered("lens blur", soft, [2, 3, 5], (radius, frame) => `boxblur=${whole(radius, frame)}:1`),
  filtered("motion blur", soft, [4, 8, 14], (radius, frame) => `dblur=angle=15:radius=${scaled(radius, frame)}`),
  filtered("enlarged", [...soft, "resolution-low"], [1.6, 2.4, 3.5], (by, { width, height }) => {
    const even = (side: number) => 2 * Math.round((side * 832) / by / width / 2);
    return `scale=${even(width)}:${even(height)}:flags=area,scale=${width}:${height}:flags=bicubic`;
  }),
  encoded("x264", smeared, ["-crf 36", "-crf 42", "-crf 48"]),
  {
    name: "recoded x264",
    named: smeared,
    recipe: (strength) => ({ before: ["-crf", ["36", "42", "48"][strength]!], filters: "scale=trunc(iw*0.46)*2:-2" }),
  },
  encoded("mpeg4", smeared, ["-c:v mpeg4 -q:v 10 -g 60", "-c:v mpeg4 -q:v 18 -g 60", "-c:v mpeg4 -q:v 31 -g 60"], {
    ending: ".avi",
  }),
  encoded("mjpeg", smeared, ["-c:v mjpeg -q:v 12", "-c:v mjpeg -q:v 20", "-c:v mjpeg -q:v 31"], { ending: ".avi" }),
  filtered(
    "banding",
    ["banding-high"],
    [6, 10, 16],
    (step) =>
      `lutyuv=y='round(val/${step})*${step}':u='round((val-128)/${step / 2})*${step / 2}+128':v='round((val-128)/${step / 2})*${step / 2}+128'`,
  ),
  // The filter's strength is √3 standard deviations.
  filtered("noise", ["noise-high"], [9, 16, 28], (s, frame) => `noise=c0s=${Math.min(100, whole(s, frame))}:c0f=t`),
  filtered(
    "color noise",
    ["noise-high", "color-noise-high"],
    [12, 22, 40],
    (s, frame) => `noise=c1s=${Math.min(100, whole(s, frame))}:c2s=${Math.min(100, whole(s, frame))}:c1f=t:c2f=t`,
  ),
  filtered(
    "flicker",
    ["flicker-high"],
    [0.025, 0.06, 0.12],
    (by) => `eq=brightness='${by}*(mod(n*7+3*floor(n/3),5)/2-1)':eval=frame`,
  ),
  filtered(
    "pumping light",
    ["flicker-high", "brightness-change-high"],
    [0.15, 0.35, 0.6],
    (by, { fps }) => `eq=gamma='exp(${by}*sin(2*PI*2.7*n/${fps}))':eval=frame`,
  ),
  filtered("low rate", ["repeats-high"], [12, 8, 4], (rate, { fps }) => `fps=${rate},fps=${fps}`),
  filtered(
    "freeze",
    ["repeats-high", "motion-low"],
    [0.5, 1, 1.8],
    (seconds, { fps }) =>
      `loop=loop=${Math.round(seconds * fps)}:size=1:start=${Math.round(0.6 * fps)},setpts=N/${fps}/TB,trim=end=3`,
  ),
  filtered(
    "dropped frames",
    // Under a fast camera they look as if it shook.
    ["jumps-high", "repeats-high", "shake-high"],
    [1, 3, 6],
    (count, { fps }) =>
      `select='gte(mod(n,${Math.round(fps / 2)}),${Math.round((count * fps) / 24)})',setpts=N/${fps}/TB`,
  ),
  filtered(
    "interlaced",
    ["combing-high"],
    [1, 2, 4],
    (apart) =>
      `split[a][b];[b]trim=start_frame=${apart},setpts=PTS-STARTPTS[c];[a][c]blend=all_expr='if(mod(Y,2),A,B)':shortest=1`,
  ),
  filtered(
    "underexposed",
    ["brightness-low", "contrast-low"],
    [0.6, 0.35, 0.15],
    (gain) => `lutyuv=y='16+(val-16)*${gain}':u='128+(val-128)*${gain}':v='128+(val-128)*${gain}'`,
  ),
  filtered(
    "overexposed",
    ["brightness-high", "clipping-high"],
    [1.5, 2.2, 3.5],
    (gain) => `lutyuv=y='clip(16+(val-16)*${gain},16,235)'`,
  ),
  {
    ...filtered("letterbox", [], [0.06, 0.12, 0.18], (bar, { width, height }) => {
      const kept = 2 * Math.round((height * (1 - 2 * bar)) / 2);
      return `crop=${width}:${kept},pad=${width}:${height}:0:${2 * Math.round((height - kept) / 4)}`;
    }),
    content: (strength) => ({ width: 1, height: 1 - 2 * [0.06, 0.12, 0.18][strength]! }),
  },
  {
    ...filtered("pillarbox", [], [0.06, 0.15, 0.3], (bar, { width, height }) => {
      const kept = 2 * Math.round((width * (1 - 2 * bar)) / 2);
      return `crop=${kept}:${height},pad=${width}:${height}:${2 * Math.round((width - kept) / 4)}:0`;
    }),
    content: (strength) => ({ width: 1 - 2 * [0.06, 0.15, 0.3][strength]!, height: 1 }),
  },
  filtered("watermark of a set", ["overlay-high"], [0.35, 0.6, 0.95], (alpha, { height }) =>
    text("archive.example", height * 0.06, alpha, "x=w*0.95-tw:y=h*0.92-th"),
  ),
  filtered("watermark of its own", ["overlay-high"], [0.35, 0.6, 0.95], (alpha, frame) => ownMark(frame, alpha)),
  filtered("subtitle", ["overlay-high"], [0.05, 0.065, 0.08], (size, { height, index }) => {
    const line = ["Where have you been?", "It is not the same.", "Nobody told us.", "Look at that!"][index % 4]!;
    return `${text(line, height * size, 1, "x=(w-tw)/2:y=h*0.9-th")}:borderw=2`;
  }),
  filtered("shake", ["shake-high", "motion-high"], [0.7, 1.3, 2.2], (percent, { width, height }) => {
    // Jumps of the camera in both directions, root mean square in percent of the width.
    const by = (percent / 100) * width * 1.1;
    const room = Math.ceil(by * 1.6);
    const [w, h] = [2 * Math.floor((width - 2 * room) / 2), 2 * Math.floor((height - 2 * room) / 2)];
    const jump = (a: number, b: number) => `${room}+${by.toFixed(1)}*sin(n*${a})+${(by * 0.6).toFixed(1)}*sin(n*${b})`;
    return `crop=${w}:${h}:x='${jump(1.9, 4.3)}':y='${jump(2.3, 5.1)}',scale=${width}:${height}:flags=lanczos`;
  }),
  filtered("color cast", ["color-cast-high"], [8, 16, 28], (by) => `lutyuv=u='val-${by * 0.6}':v='val+${by}'`),
  filtered("faded to grey", ["saturation-low"], [0.35, 0.15, 0], (by) => `hue=s=${by}`),
  filtered("ghosts", ["ghosting-high", ...soft], [2, 3, 5], (frames) => `tmix=frames=${frames}`),
  filtered(
    "blended rate",
    ["ghosting-high", "repeats-high"],
    [0.8, 0.5, 0.34],
    (share, { fps }) => `fps=${(fps * share).toFixed(3)},minterpolate=fps=${fps}:mi_mode=blend`,
  ),
];
