// What a person can do about any tokenizer file that cannot be used.
export const ANOTHER_TOKENIZER =
  "take it again from where the checkpoint came: google/umt5-xxl of an official folder, or tokenizer/ of a diffusers one";
