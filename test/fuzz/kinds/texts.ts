// What people write: configurations of all sorts, captions, prompt files, caption templates; and what endpoints answer.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readTemplate, renderPrompt } from "../../../src/dataset/caption/templates.ts";
import { readCaptionFile } from "../../../src/dataset/caption-file.ts";
import { readPrepareConfig, settlePrepareConfig } from "../../../src/dataset/prepare/settings.ts";
import { ChatClient } from "../../../src/io/chat/client.ts";
import { resolveEndpoint } from "../../../src/io/chat/endpoint.ts";
import { parsePrompts, readPromptFile } from "../../../src/train/config/prompt-file.ts";
import { readTrainConfig } from "../../../src/train/config/read.ts";
import { ChatServer, type Reply } from "../../dataset/caption-server.ts";
import { clips, pictures } from "../../dataset/dataset-files.ts";
import { below, changedJson, changedJsonText, changedText, nastyText, savedText } from "../changes.ts";
import { readCli } from "../cli.ts";
import { expectValid, type Kind, put } from "../run.ts";

const datasetToml = `# a set
[general]
resolution = [64, 64]
caption_extension = ".txt"
batch_size = 2
enable_bucket = true
bucket_no_upscale = false

[[datasets]]
video_directory = "clips"
cache_directory = "cache"
target_frames = [1, 5, 9]
frame_extraction = "uniform"
frame_sample = 2
num_repeats = 2
source_fps = 16.0

[[datasets]]
image_jsonl_file = "p.jsonl"
resolution = [64, 32]
`;
const trainToml = `name = "style"
output = "run"
steps = 40
seed = 7

[model]
name = "tiny-t2v"

[dataset]
path = "clips"
target_frames = [5]
resolution = [32, 32]
batch_size = 2

[lora]
rank = 4
alpha = 4.0
targets = ["self_attn.q", "ffn"]

[optimizer]
kind = "adamw"
learning_rate = 1e-4

[schedule]
kind = "cosine"
warmup = "5%"

[validation]
hold_out = 1
every_steps = 10

[preview]
prompts = "prompts.txt"
every_steps = 20

[save]
every_steps = 20
state_every_steps = 10
`;
const prepareToml = `model = "t2v-A14B"
resolution = [832, 480]
crop = "center"
trigger = "in style"
[scenes]
cut = 11
[clips]
shortest = 2
longest = 10
[quality]
sharpness = { min = 0.5 }
noise = false
[duplicates]
distance = 5
[video]
crf = 12
preset = "medium"
`;
const promptFile = `# prompts
a red circle moves to the right --w 64 --h 64 --f 9 --d 42 --s 4 --l 3.5 --fs 5.0 --n a blue square
a green square, 穿过 café --d 7
`;
const template = `separator: ". "
clip: Describe this clip. {view} {note}
picture: Describe this picture. {note}
`;
const captionText = "Ein Mann läuft über die Straße — 他穿过街道。\nПривет, мир. Он идёт домой.\n";

const datasetConfigs: Kind = {
  name: "dataset configuration",
  share: 700,
  mayReadOutside: true,
  async prepare(base) {
    await clips(join(base, "clips"), 2, { frames: 9, width: 32, height: 32 });
    await pictures(join(base, "pictures"), 2);
    const { cpSync } = await import("node:fs");
    const lines = [0, 1].map((i) => ({ image_path: `pictures/picture00${i}.jpg`, caption: `Picture ${i}.` }));
    return async (draws, place) => {
      const { inside, outside } = place;
      cpSync(base, inside, { recursive: true });
      const jsonl = lines.map((line) =>
        Buffer.concat([
          draws.chance(0.25) ? changedJsonText(draws, line, outside) : Buffer.from(JSON.stringify(line)),
          Buffer.from("\n"),
        ]),
      );
      writeFileSync(join(inside, "p.jsonl"), Buffer.concat(jsonl));
      const file = join(inside, "set.toml");
      put(
        draws,
        place,
        file,
        savedText(draws, draws.chance(0.8) ? changedText(draws, datasetToml, outside) : datasetToml, outside),
      );
      return readCli(draws, ["dataset", "inspect", file, ...(draws.chance(0.3) ? ["--summary"] : [])]);
    };
  },
};

const trainConfigs: Kind = {
  name: "training configuration",
  share: 700,
  mayReadOutside: true,
  async prepare() {
    return async (draws, place) => {
      writeFileSync(join(place.inside, "prompts.txt"), promptFile);
      mkdirSync(join(place.inside, "clips"));
      const file = join(place.inside, "run.toml");
      put(draws, place, file, savedText(draws, changedText(draws, trainToml, place.outside), place.outside));
      return (await readTrainConfig(file)).settings.name;
    };
  },
};

const prepareConfigs: Kind = {
  name: "preparation settings",
  share: 300,
  async prepare() {
    return async (draws, place) => {
      const file = join(place.inside, "prepare.toml");
      put(draws, place, file, savedText(draws, changedText(draws, prepareToml, place.outside), place.outside));
      const settings = settlePrepareConfig((await readPrepareConfig(file)).config);
      expectValid(settings.fps > 0, "it has no rate");
      return settings.resolution;
    };
  },
};

const prompts: Kind = {
  name: "prompt file",
  share: 400,
  mayReadOutside: true,
  async prepare() {
    return async (draws, place) => {
      const file = join(place.inside, "prompts.txt");
      const text = changedText(draws, promptFile, place.outside);
      if (draws.chance(0.2)) return parsePrompts(text, file, place.inside).prompts.length;
      put(draws, place, file, savedText(draws, text, place.outside));
      const { prompts: read, notes } = await readPromptFile(file);
      for (const { prompt } of read)
        expectValid(!prompt.includes("\ufffd") || text.toWellFormed().includes("\ufffd"), "a prompt is garbled");
      return notes;
    };
  },
};

const templates: Kind = {
  name: "caption template",
  share: 250,
  async prepare() {
    return async (draws, place) => {
      const file = join(place.inside, "t.txt");
      put(draws, place, file, savedText(draws, changedText(draws, template, place.outside), place.outside));
      const { template: read } = await readTemplate(file);
      return renderPrompt(read, draws.pick(["clip", "picture"]), {
        trigger: nastyText(draws, place.outside),
        note: "",
      });
    };
  },
};

const captions: Kind = {
  name: "caption",
  share: 500,
  async prepare() {
    return async (draws, place) => {
      const file = join(place.inside, "c.txt");
      const text = draws.chance(0.5) ? captionText : changedText(draws, captionText, place.outside);
      put(draws, place, file, savedText(draws, text, place.outside));
      const read = await readCaptionFile(file);
      expectValid(
        !read?.text.includes("\ufffd") || text.toWellFormed().includes("\ufffd"),
        `it is garbled: ${read?.text.slice(0, 80)}`,
      );
      return read?.text.length;
    };
  },
};

const answers: Kind = {
  name: "answer of an endpoint",
  share: 500,
  async prepare() {
    let reply: Reply = "";
    const server = await ChatServer.start(() => reply);
    const endpoint = resolveEndpoint(
      { endpoint: `${server.origin}/v1`, protocol: "openai", keyVariable: "K" },
      { K: "k" },
    );
    const client = new ChatClient({ endpoint, timeoutSeconds: 1, retries: 1, backoffSeconds: 0.001 });
    const answer = {
      id: "c",
      choices: [
        { index: 0, finish_reason: "stop", message: { role: "assistant", content: "A dog runs.", refusal: null } },
      ],
      usage: { prompt_tokens: 100, completion_tokens: 20 },
      error: null,
    };
    return async (draws, { outside }) => {
      const status = draws.pick([200, 200, 200, 200, 204, 301, 302, 400, 401, 403, 404, 413, 422, 429, 500, 503, 599]);
      const body = draws.chance(0.85)
        ? Buffer.from(
            changedJsonText(draws, status < 300 ? answer : { error: { code: "x", message: "no", type: "e" } }, outside),
          ).toString()
        : draws.pick(["", "<html>no</html>", "null", "[]", '{"choices":[]}', "x".repeat(3_000_000), "data: {}\n\n"]);
      const headers: Record<string, string> = {
        "content-type": draws.pick(["application/json", "text/html", "text/event-stream"]),
      };
      if (draws.chance(0.3))
        headers["retry-after"] = draws.pick(["0", "-1", "1e400", "x", "Thu, 01 Jan 1970 00:00:00 GMT"]);
      if (status === 301 || status === 302)
        headers.location = draws.pick(["/v1/x", "http://127.0.0.1:1/", "file:///etc/passwd", "://"]);
      reply = draws.chance(0.02) ? "reset" : draws.chance(0.01) ? "hang" : { status, headers, body };
      const parts = [{ type: "text", text: "what is it?" }] as const;
      const { text } = await client.complete({
        model: "eyes",
        parts: [...parts],
        maxTokens: 50,
        temperature: 0.2,
        seed: 7,
      });
      expectValid(typeof text === "string" && text.length < 2_000_000, "it is no text");
      return below(draws, 2);
    };
  },
};

const jsonConfigs: Kind = {
  name: "configuration in JSON",
  share: 250,
  mayReadOutside: true,
  async prepare() {
    const dataset = {
      general: { resolution: [64, 64], batch_size: 1 },
      datasets: [{ video_directory: "clips", target_frames: [1, 5] }],
    };
    const train = {
      name: "s",
      output: "run",
      steps: 4,
      model: { name: "tiny-t2v" },
      dataset: { path: "clips" },
      lora: { rank: 2 },
    };
    return async (draws, place) => {
      mkdirSync(join(place.inside, "clips"));
      const file = join(place.inside, "c.json");
      const which = draws.chance(0.5);
      const text = JSON.stringify(changedJson(draws, which ? dataset : train, place.outside)) ?? "";
      put(draws, place, file, savedText(draws, text, place.outside));
      if (which) return readCli(draws, ["dataset", "inspect", file]);
      return (await readTrainConfig(file)).settings.name;
    };
  },
};

export const textKinds: readonly Kind[] = [
  datasetConfigs,
  trainConfigs,
  prepareConfigs,
  jsonConfigs,
  prompts,
  templates,
  captions,
  answers,
];
