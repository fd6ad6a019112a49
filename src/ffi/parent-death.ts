// Linux: lets this process end together with the one that started it, in the middle of a kernel too, where it would hear
// of nothing else. Elsewhere a child learns of it between two turns of its event loop.
import koffi from "koffi";

/** Asks the system to kill this process when its parent ends. Does nothing where there is no such thing. */
export function endWithParent(): void {
  if (process.platform !== "linux") return;
  const PR_SET_PDEATHSIG = 1;
  const SIGKILL = 9;
  try {
    const prctl = koffi
      .load("libc.so.6")
      .func("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)");
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  } catch {
    // Another C library: the event loop will tell.
  }
}
