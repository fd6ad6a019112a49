// Overlays that show only where clips are compared: the same edges at the same spot of pictures that have nothing else in
// common. This finds a watermark under a camera that stands still, where nothing in the clip itself tells it from scenery.
import type { ClipRecord } from "./clip.ts";
import { type HashRow, hashDistance, hashRow } from "./hash.ts";
import { cell, leastInCell, type StillEdges, unpackStillEdges } from "./measures/overlay.ts";

/** Scenes a film must have for an overlay to be found in what nearly all of them share. */
const leastScenes = 4;
/** Of those scenes, the share that must have an edge at the place. */
const mostScenes = 0.8;
/** Cells that two clips must share: a coincidence is smaller. */
const leastCells = 3;
/** More than this many shared cells, and this share of those that have edges, is the same scenery. */
const mostCells = 24;
const mostShare = 0.3;
/** How many others a clip is compared with at most, spread evenly over the set. */
const mostCompared = 100;

interface Scene {
  still: StillEdges;
  row: HashRow;
  /** Cells that hold still edges, as their column and row. */
  cells: readonly (readonly [number, number])[];
  /** Edges shared with another scene, % of the picture. */
  shared: number;
}

function edgesIn({ width, height, directions }: StillEdges, left: number, top: number): number {
  let count = 0;
  for (let y = Math.max(0, top); y < Math.min(height, top + cell); y++)
    for (let x = Math.max(0, left); x < Math.min(width, left + cell); x++) if (directions[y * width + x]) count++;
  return count;
}

function sceneOf(clip: ClipRecord): Scene {
  const still = unpackStillEdges(clip.stillEdges!);
  const cells: [number, number][] = [];
  for (let top = 0; top < still.height; top += cell)
    for (let left = 0; left < still.width; left += cell)
      if (edgesIn(still, left, top) >= leastInCell) cells.push([left, top]);
  return { still, row: hashRow(clip.hashes), cells, shared: 0 };
}

/** Edges of a cell of `a` that `b` has too, facing alike, moved by (dx, dy). */
function agreeing(a: StillEdges, b: StillEdges, left: number, top: number, dx: number, dy: number): number {
  let count = 0;
  for (let y = top; y < top + cell; y++) {
    if (y + dy < 0 || y + dy >= b.height) continue;
    for (let x = left; x < left + cell; x++) {
      const here = a.directions[y * a.width + x]!;
      if (here === 0 || x + dx < 0 || x + dx >= b.width) continue;
      const there = b.directions[(y + dy) * b.width + x + dx]!;
      if (there === 0) continue;
      const turn = (here - there + 8) % 8;
      if (turn <= 1 || turn === 7) count++;
    }
  }
  return count;
}

/** Edges that two pictures share at one spot, % of the picture; 0 where they share none, or far more than an overlay. */
export function sharedEdges(a: Pick<Scene, "still" | "cells">, b: Pick<Scene, "still" | "cells">): number {
  if (a.still.width !== b.still.width || a.still.height !== b.still.height) return 0;
  let best = 0;
  // Scaled to the small size, the same overlay may lie a pixel off.
  for (let dy = -1; dy <= 1; dy++)
    for (let dx = -1; dx <= 1; dx++) {
      let edges = 0;
      let cells = 0;
      for (const [left, top] of a.cells) {
        const agree = agreeing(a.still, b.still, left, top, dx, dy);
        if (agree < leastInCell) continue;
        const most = Math.max(edgesIn(a.still, left, top), edgesIn(b.still, left + dx, top + dy));
        if (agree < 0.5 * most) continue;
        edges += agree;
        cells++;
      }
      if (cells < leastCells) continue;
      if (cells > mostCells && cells > mostShare * Math.max(a.cells.length, b.cells.length)) return 0;
      best = Math.max(best, edges);
    }
  return (100 * best) / (a.still.width * a.still.height);
}

/** Edges at the same place in nearly all of some scenes that do not look alike, % of the picture. */
function edgesOfNearlyAll(scenes: readonly Scene[]): number {
  const [first] = scenes;
  const alike = scenes.filter(({ still }) => still.directions.length === first?.still.directions.length);
  if (!first || alike.length < leastScenes) return 0;
  const { length } = first.still.directions;
  let shared = 0;
  for (let at = 0; at < length; at++) {
    let count = 0;
    for (const { still } of alike) if (still.directions[at]) count++;
    if (count >= mostScenes * alike.length) shared++;
  }
  return (100 * shared) / length;
}

/**
 * Clips of a set, with the value of `overlay` raised where other clips prove more than their own frames did. `source` is
 * the film each comes from. Clips in, new clips out, in order; nothing is changed in place.
 */
export function withSharedOverlays(
  clips: readonly { source: number; clip: ClipRecord }[],
  likeness: number,
): ClipRecord[] {
  // The same place filmed again has the same still edges for a good reason.
  const most = 2 * likeness + 4;
  const alike = (a: Scene, b: Scene) => hashDistance(a.row, b.row, most) <= most;
  const scenes = new Map<string, Scene>();
  const films = new Map<number, Scene[]>();
  for (const { source, clip } of clips) {
    const key = `${source}:${clip.scene}`;
    if (!clip.stillEdges || scenes.has(key)) continue;
    const scene = sceneOf(clip);
    scenes.set(key, scene);
    const film = films.get(source) ?? [];
    films.set(source, film);
    if (!film.some((other) => alike(other, scene))) film.push(scene);
  }
  const all = [...scenes.values()];
  const step = Math.max(1, all.length / mostCompared);
  for (const [i, scene] of all.entries())
    for (let k = step; k < all.length; k += step) {
      const other = all[(i + Math.round(k)) % all.length]!;
      if (other === scene || alike(scene, other)) continue;
      const shared = sharedEdges(scene, other);
      scene.shared = Math.max(scene.shared, shared);
      other.shared = Math.max(other.shared, shared);
    }
  const overFilm = new Map([...films].map(([source, film]) => [source, edgesOfNearlyAll(film)]));
  return clips.map(({ source, clip }) => {
    const proven = Math.max(overFilm.get(source) ?? 0, scenes.get(`${source}:${clip.scene}`)?.shared ?? 0);
    const value = Math.round(proven * 1e4) / 1e4;
    if (clip.short || value === 0 || (clip.values.overlay ?? -1) >= value) return clip;
    return { ...clip, values: { ...clip.values, overlay: value } };
  });
}

/** What one of two pictures of the same scene has and the other lacks, % of the picture, where it lies close together. */
export function addedEdges(clip: ClipRecord, other: ClipRecord): number {
  if (!clip.stillEdges || !other.stillEdges) return 0;
  const [a, b] = [unpackStillEdges(clip.stillEdges), unpackStillEdges(other.stillEdges)];
  if (a.width !== b.width || a.height !== b.height) return 0;
  const near = (x: number, y: number) => {
    for (let v = Math.max(0, y - 3); v <= Math.min(b.height - 1, y + 3); v++)
      for (let u = Math.max(0, x - 3); u <= Math.min(b.width - 1, x + 3); u++)
        if (b.directions[v * b.width + u]) return true;
    return false;
  };
  let [count, sumX, sumY] = [0, 0, 0];
  const added: [number, number][] = [];
  for (let y = 0; y < a.height; y++)
    for (let x = 0; x < a.width; x++) {
      if (!a.directions[y * a.width + x] || near(x, y)) continue;
      added.push([x, y]);
      count++;
      sumX += x;
      sumY += y;
    }
  if (count === 0) return 0;
  // A logo or a line of text keeps together; what better focus adds lies everywhere.
  const [midX, midY] = [sumX / count, sumY / count];
  const close = added.filter(([x, y]) => Math.abs(x - midX) < a.width / 4 && Math.abs(y - midY) < a.height / 7);
  return close.length < 0.8 * count ? 0 : (100 * close.length) / (a.width * a.height);
}
