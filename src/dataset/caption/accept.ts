// Turns drafts a person has edited into captions, one by one, each at once: there is never a moment without either.
import { rm, stat } from "node:fs/promises";
import { beginsWithTrigger, estimateTokens, withTrigger } from "./caption-text.ts";
import { type CaptionItem, type FolderOptions, readCaptionFolder } from "./folder.ts";
import { Journal, readJournal, textHash, triggersOf } from "./journal.ts";
import { replaceCaption, writeNewCaption } from "./store.ts";

/** Which drafts become captions, and how. */
export interface AcceptSettings extends FolderOptions {
  folder: string;
  /** Draft over an existing caption: that one is kept as a backup. Otherwise such drafts are left alone. */
  overwrite: boolean;
  /** The phrase every caption begins with; the one the draft was written with where absent. */
  trigger?: string;
  separator?: string;
}

/** What came of a draft. */
export type AcceptEvent =
  | {
      type: "accepted";
      name: string;
      path: string;
      text: string;
      tokens: number;
      /** Tokens that the model reads. */
      limit: number;
      warnings: "too-long"[];
      /** True where the trigger had been lost or changed in the draft. */
      triggerRestored: boolean;
      backup?: string;
    }
  | { type: "kept"; name: string; reason: string }
  /** What whoever wrote the texts should hear. */
  | { type: "notice"; message: string }
  | { type: "finished"; accepted: number; kept: number };

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Accepts every draft of a folder. A person's words stay as they are but for line breaks at the ends and the trigger,
 * which is put back in front where it was lost.
 * @throws KinoraError `caption.no-media`, `dataset.no-folder`, `io.*`.
 */
export async function* acceptDrafts(settings: AcceptSettings): AsyncGenerator<AcceptEvent> {
  const { folder, overwrite } = settings;
  const { items, left, notices, textLength } = await readCaptionFolder(folder, settings);
  for (const message of notices) yield { type: "notice", message };
  const triggers = triggersOf(await readJournal(folder));
  const journal = new Journal(folder);
  let accepted = 0;
  let kept = 0;

  const accept = async (item: CaptionItem, draft: string): Promise<AcceptEvent> => {
    const { name, captionPath, copyPath, draftPath, caption } = item;
    const trigger = settings.trigger ?? triggers.get(name) ?? "";
    const text = beginsWithTrigger(draft, trigger)
      ? draft
      : withTrigger(draft, trigger, {
          ...(settings.separator === undefined ? {} : { separator: settings.separator }),
          inside: "keep",
        });
    let backup: string | undefined;
    if (caption !== text) {
      if (overwrite) backup = await replaceCaption(captionPath, text);
      else if (caption !== undefined || !(await writeNewCaption(captionPath, text)))
        return { type: "kept", name, reason: "already has a caption: `overwrite` replaces it" };
    }
    if (copyPath) await (overwrite ? replaceCaption : writeNewCaption)(copyPath, text);
    journal.append({ event: "accept", at: new Date().toISOString(), item: name, after: textHash(text) });
    await rm(draftPath);
    const tokens = estimateTokens(text);
    return {
      type: "accepted",
      name,
      path: captionPath,
      text,
      tokens,
      limit: textLength,
      warnings: tokens > textLength ? ["too-long"] : [],
      triggerRestored: text !== draft,
      ...(backup === undefined ? {} : { backup }),
    };
  };

  for (const { name, reason, unreadable } of left) {
    if (!unreadable) continue;
    kept++;
    yield { type: "kept", name, reason };
  }
  for (const item of items) {
    let event: AcceptEvent;
    if (item.draft !== undefined) event = await accept(item, item.draft);
    else if (await exists(item.draftPath)) event = { type: "kept", name: item.name, reason: "its draft is empty" };
    else continue;
    if (event.type === "accepted") accepted++;
    else kept++;
    yield event;
  }
  yield { type: "finished", accepted, kept };
}
