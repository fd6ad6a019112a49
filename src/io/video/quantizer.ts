// How coarsely the encoder of a decoded frame rounded its detail, where its decoder tells (H.264 and the MPEG family).
import { AV_FRAME_DATA_VIDEO_ENC_PARAMS, AV_VIDEO_ENC_PARAMS_H264, AV_VIDEO_ENC_PARAMS_MPEG2 } from "node-av/constants";
import type { Frame } from "node-av/lib";

/** Decoder options that frames must be decoded with. */
export const tellQuantizers = { export_side_data: "venc_params" };

/** Blocks looked at: their mean needs no more. */
const mostBlocks = 2000;

/**
 * Mean quantizer of a frame's blocks on H.264's scale (0–51; 6 more double the step), undefined where it is not told.
 * The layout is that of FFmpeg's AVVideoEncParams and AVVideoBlockParams, which are part of its stable interface.
 */
export function quantizerOf(frame: Frame): number | undefined {
  const data = frame.getSideData(AV_FRAME_DATA_VIDEO_ENC_PARAMS);
  if (!data || data.length < 32) return undefined;
  const count = data.readUInt32LE(0);
  const offset = Number(data.readBigUInt64LE(8));
  const size = Number(data.readBigUInt64LE(16));
  const type = data.readInt32LE(24);
  let quantizer = data.readInt32LE(28);
  if (count > 0 && size >= 20 && offset + count * size <= data.length) {
    const every = Math.max(1, Math.floor(count / mostBlocks));
    let [sum, blocks] = [0, 0];
    for (let i = 0; i < count; i += every) {
      sum += data.readInt32LE(offset + i * size + 16);
      blocks++;
    }
    quantizer += sum / blocks;
  }
  if (type === AV_VIDEO_ENC_PARAMS_H264) return quantizer;
  // The MPEG family's steps are twice the quantizer; H.264's are 1 at 4.
  return type === AV_VIDEO_ENC_PARAMS_MPEG2 && quantizer > 0 ? 4 + 6 * Math.log2(2 * quantizer) : undefined;
}
