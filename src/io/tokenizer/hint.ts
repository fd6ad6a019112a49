// What a person can do about any tokenizer file that cannot be used.
export const ANOTHER_TOKENIZER =
  "get it again from the checkpoint's source: google/umt5-xxl of an official folder, or tokenizer/ of a diffusers one";
