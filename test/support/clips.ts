// Clips with one fault each, made from a clean one; and clean ones of several kinds. 640×368, 16 frames a second.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeFilm } from "./film.ts";

export const clipFps = 16;

/** A slow zoom into a fractal that drifts aside: edges, detail and motion everywhere. */
const fractal = (seconds: number, scale = 1) =>
  `mandelbrot=s=640x368:r=16:start_scale=${0.25 * scale}:end_scale=${0.05 * scale}:end_pts=200:maxiter=300,trim=end=${seconds},scroll=h=0.003,format=yuv420p`;

/** Filters that spoil a clean clip. */
const faults = {
  blurred: "gblur=sigma=7",
  "motion-blurred": "scroll=h=0.02,avgblur=sizeX=14:sizeY=1",
  shaking: "crop=580:330:'30+22*sin(n*2.1)+7*sin(n*5.3)':'19+18*cos(n*2.7)',scale=640:368",
  still: "loop=loop=60:size=1,trim=end_frame=48,noise=alls=3:allf=t",
  racing: "scroll=h=0.09",
  dark: "eq=brightness=-0.43:contrast=0.1",
  ramping: "lutyuv=y=val,eq=brightness='-0.3+0.2*t':eval=frame",
  flickering: "eq=brightness='0.05*mod(n,2)+0.03*mod(n,3)':eval=frame",
  noisy: "noise=alls=40:allf=t",
  banded: "lutyuv=y='round(val/14)*14'",
  woven: "split[a][b];[b]trim=start_frame=5,setpts=PTS-STARTPTS[c];[a][c]blend=all_expr='if(mod(Y,2),A,B)':shortest=1",
  stuttering: "fps=4,fps=16",
  blended: "scroll=h=0.01,fps=4,minterpolate=fps=16:mi_mode=blend",
  jumping: "select='gte(mod(n,6),2)',setpts=N/16/TB",
  "color-noisy": "noise=c1s=45:c2s=45:c1f=t:c2f=t",
  faint: "lutyuv=y='90+(val-16)*0.1'",
  blown: "lutyuv=y='clip(16+(val-16)*6,16,235)'",
  tinted: "lutyuv=u='val-20':v='val+30'",
  grey: "hue=s=0",
  letterboxed: "crop=640:268,pad=640:368:0:50",
  pillarboxed: "crop=208:368,pad=640:368:216:0",
  watermarked:
    "drawbox=x=500:y=20:w=110:h=44:color=white:t=7,drawbox=x=520:y=34:w=30:h=16:color=black:t=fill,drawbox=x=562:y=32:w=8:h=22:color=white:t=fill",
} as const;

export type Fault = keyof typeof faults | "blocky" | "small" | "compressed";

/** Makes (once a folder) a clip with this fault. */
export async function faultyClip(folder: string, fault: Fault): Promise<string> {
  const clean = await cleanClip(folder);
  const path = join(folder, `${fault}.${fault === "blocky" ? "avi" : "mkv"}`);
  if (existsSync(path)) return path;
  const movie = `movie=${clean}`;
  if (fault === "blocky")
    await makeFilm(path, {
      graph: `${movie},format=yuvj420p`,
      encoder: "mjpeg",
      encoderOptions: { flags: "+qscale", global_quality: "3200", qmin: "20", qmax: "31" },
    });
  else if (fault === "compressed")
    await makeFilm(path, { graph: `${movie},format=yuv420p`, encoderOptions: { crf: "50", preset: "medium" } });
  else if (fault === "small") await makeFilm(path, { graph: `${movie},scale=160:92:flags=lanczos` });
  else await makeFilm(path, { graph: `${movie},${faults[fault]},format=yuv420p` });
  return path;
}

/** The clip the faulty ones are made from. */
export async function cleanClip(folder: string): Promise<string> {
  const path = join(folder, "clean.mkv");
  if (!existsSync(path)) await makeFilm(path, { graph: fractal(3), encoderOptions: { crf: "6" } });
  return path;
}

/** Clean clips that filters might take for faulty: smooth gradients that move, a quick pan, a still camera with one thing moving. */
export async function cleanClips(folder: string): Promise<string[]> {
  const clean = await cleanClip(folder);
  const made: string[] = [clean];
  const make = async (name: string, graph: string) => {
    const path = join(folder, name);
    if (!existsSync(path)) await makeFilm(path, { graph, encoderOptions: { crf: "8" } });
    made.push(path);
  };
  // FFmpeg's own source of gradients draws its colours anew each time.
  await make(
    "gradients.mkv",
    "nullsrc=s=640x368:r=16:d=3,format=yuv420p,geq=lum='128+60*sin((X+4*N)/90)+40*cos((Y-3*N)/70)':cb='128+40*sin((X-2*N)/110)':cr='128+40*cos((Y+X+3*N)/130)'",
  );
  await make("pan.mkv", `movie=${clean},scroll=h=0.012`);
  await make(
    "one-thing.mkv",
    `movie=${clean},loop=loop=60:size=1,trim=end_frame=48[b];testsrc=s=96x96:r=16:d=3,format=yuv420p[f];[b][f]overlay=x='60+9*n':y=120`,
  );
  return made;
}
