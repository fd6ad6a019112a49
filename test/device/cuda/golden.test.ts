// The official code's numbers on the cuda device, emulated: f32 and bf16 at the tolerances of every device.
