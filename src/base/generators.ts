// Generators that tell of work on the way to its result: run to their end, or passed on in other words.

/** The result of `work`; `hear` gets what it yields. */
export async function finished<E, T>(work: AsyncGenerator<E, T>, hear: (event: E) => void = () => {}): Promise<T> {
  try {
    for (;;) {
      const { done, value } = await work.next();
      if (done) return value;
      hear(value);
    }
  } finally {
    // Where `hear` throws, what the work holds is given back.
    await work.return(undefined as never);
  }
}

/** What `work` yields, changed; then its result. Left early, the work ends too. */
export async function* mapped<E, F, T>(work: AsyncGenerator<E, T>, change: (event: E) => F): AsyncGenerator<F, T> {
  try {
    for (;;) {
      const { done, value } = await work.next();
      if (done) return value;
      yield change(value);
    }
  } finally {
    await work.return(undefined as never);
  }
}
