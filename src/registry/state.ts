// What a log comes to: the versions of a LoRA, what was said of them, and which one is current. A pure fold; see log.ts.
import type { Happening, RegistryEvent } from "../protocol/registry.ts";

/** Where a version stands. */
export type VersionStatus = "published" | "tested" | "approved" | "current" | "trial" | "deprecated";

export interface TestResult {
  phase: 1 | 2 | 3;
  verdict: "passed" | "failed";
  report?: string | undefined;
  scores?: Readonly<Record<string, number>> | undefined;
  at: string;
  who: string;
}

/** A version and what was said of it. */
export interface VersionState {
  version: string;
  /** Hash of its version.json. */
  manifest: string;
  publishedAt: string;
  publishedBy: string;
  tests: readonly TestResult[];
  approvals: readonly { who: string; role?: string | undefined; at: string; why?: string | undefined }[];
  deprecated?: { at: string; why?: string | undefined; replacedBy?: string | undefined } | undefined;
  feedback: { good: number; bad: number };
  tags: readonly string[];
}

/** All that a log comes to. */
export interface NameState {
  versions: ReadonlyMap<string, VersionState>;
  /** Aliases: which version they stand on. */
  current?: string | undefined;
  trial?: { version: string; share: number; since: string } | undefined;
  /** The way back: each version that was current before the next, the current one last. Rolling back shortens it. */
  history: readonly string[];
  /** Every version that has ever been current. */
  everCurrent: ReadonlySet<string>;
  notes: readonly { at: string; who: string; version?: string | undefined; text: string }[];
  events: readonly RegistryEvent[];
}

export function fold(events: readonly RegistryEvent[]): NameState {
  const versions = new Map<string, VersionState>();
  const state = {
    versions,
    current: undefined as string | undefined,
    trial: undefined as NameState["trial"],
    history: [] as string[],
    everCurrent: new Set<string>(),
    notes: [] as NameState["notes"][number][],
    events,
  };
  const change = (version: string, next: (state: VersionState) => VersionState): void => {
    const found = versions.get(version);
    if (found) versions.set(version, next(found));
  };
  const makeCurrent = (version: string, back = false): void => {
    state.current = version;
    state.everCurrent.add(version);
    const at = back ? state.history.lastIndexOf(version) : -1;
    if (at >= 0) state.history.length = at + 1;
    else state.history.push(version);
    if (state.trial?.version === version) state.trial = undefined;
  };
  for (const { at, who, role, why, what } of events) {
    switch (what.type) {
      case "published":
        versions.set(what.version, {
          version: what.version,
          manifest: what.manifest,
          publishedAt: at,
          publishedBy: who,
          tests: [],
          approvals: [],
          feedback: { good: 0, bad: 0 },
          tags: [],
        });
        break;
      case "tested": {
        const { phase, verdict, report, scores } = what;
        change(what.version, (v) => ({ ...v, tests: [...v.tests, { phase, verdict, report, scores, at, who }] }));
        break;
      }
      case "approved":
        change(what.version, (v) => ({ ...v, approvals: [...v.approvals, { who, role, at, why }] }));
        break;
      case "promoted":
        makeCurrent(what.version);
        change(what.version, (v) => ({ ...v, deprecated: undefined }));
        break;
      case "rolled-back":
        makeCurrent(what.to, true);
        change(what.to, (v) => ({ ...v, deprecated: undefined }));
        if (state.trial?.version === what.from) state.trial = undefined;
        break;
      case "trial-started":
        state.trial = { version: what.version, share: what.share, since: at };
        break;
      case "share-changed":
        if (state.trial?.version === what.version) state.trial = { ...state.trial, share: what.share };
        break;
      case "trial-ended":
        if (state.trial?.version === what.version) state.trial = undefined;
        break;
      case "deprecated":
        change(what.version, (v) => ({ ...v, deprecated: { at, why, replacedBy: what.replacedBy } }));
        if (state.trial?.version === what.version) state.trial = undefined;
        break;
      case "feedback":
        change(what.version, (v) => ({
          ...v,
          feedback: { ...v.feedback, [what.verdict]: v.feedback[what.verdict] + 1 },
        }));
        break;
      case "tagged":
        change(what.version, (v) => ({ ...v, tags: what.tags }));
        break;
      case "note":
        state.notes.push({ at, who, version: what.version, text: what.text });
        break;
      default:
        what satisfies never;
    }
  }
  return state;
}

/** The one word for where a version stands. */
export function statusOf(state: NameState, version: VersionState): VersionStatus {
  if (state.current === version.version) return "current";
  if (version.deprecated) return "deprecated";
  if (state.trial?.version === version.version) return "trial";
  if (version.approvals.length > 0) return "approved";
  return version.tests.length > 0 ? "tested" : "published";
}

/** Whether the latest verdict of an acceptance phase was that it passed. */
export function hasPassed({ tests }: VersionState, phase: 1 | 2 | 3): boolean {
  return tests.findLast((test) => test.phase === phase)?.verdict === "passed";
}

/** The number a new version gets. */
export function nextVersion({ versions }: NameState): string {
  const numbers = [...versions.keys()].map((name) => Number(name.slice(1)));
  return `v${Math.max(0, ...numbers) + 1}`;
}

/** What happened, as one line of a changelog or a notification. */
export function describeEvent({ what, why, who }: Pick<RegistryEvent, "what" | "why" | "who">): string {
  const reason = why ? `: ${why}` : "";
  return `${sentence(what)} by ${who}${reason}`;
}

function sentence(what: Happening): string {
  switch (what.type) {
    case "published":
      return `${what.version} published`;
    case "tested":
      return `${what.version} ${what.verdict} acceptance phase ${what.phase}`;
    case "approved":
      return `${what.version} approved`;
    case "promoted":
      return `${what.version} promoted to current${what.forced ? " (forced)" : ""}`;
    case "trial-started":
      return `trial of ${what.version} started with ${Math.round(what.share * 100)} % of requests`;
    case "share-changed":
      return `trial of ${what.version} changed to ${Math.round(what.share * 100)} % of requests`;
    case "trial-ended":
      return `trial of ${what.version} ended`;
    case "deprecated":
      return `${what.version} deprecated${what.replacedBy ? ` in favour of ${what.replacedBy}` : ""}`;
    case "rolled-back":
      return `rolled back from ${what.from} to ${what.to}`;
    case "feedback":
      return `${what.verdict} feedback on ${what.version}${what.note ? ` (${what.note})` : ""}`;
    case "tagged":
      return `${what.version} tagged ${what.tags.join(", ") || "nothing"}`;
    case "note":
      return `note${what.version ? ` on ${what.version}` : ""}: ${what.text}`;
  }
}
