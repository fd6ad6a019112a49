// The operations Kinora asks of oneDNN, in oneDNN's terms but in no version's form. Types only.

/** The formats oneDNN computes in; others are converted before. */
export type OneDnnType = "f32" | "bf16" | "f16" | "i32" | "i8" | "u8";

/** A layout a primitive chose; see OneDnn.layoutOf. */
export interface Layout {
  readonly descriptor: number;
  readonly bytes: number;
  /** Tells layouts apart in cache keys. */
  readonly id: number;
}

/** A tensor as a primitive sees it: strides count elements; "any" lets the primitive choose its own layout. */
export interface TensorDescription {
  readonly dtype: OneDnnType;
  readonly dims: readonly number[];
  readonly strides: readonly number[] | "any" | Layout;
}

export type EltwiseAlgorithm = "linear" | "gelu-tanh" | "gelu-erf" | "swish" | "exp" | "sqrt";
export type BinaryAlgorithm = "add" | "multiply" | "divide" | "subtract";
export type ReductionAlgorithm = "sum" | "max";

interface Window {
  strides: readonly number[];
  paddingBefore: readonly number[];
  paddingAfter: readonly number[];
}

/** `T` is a description for those who ask, a descriptor's handle inside the binding. */
export type Operation<T> =
  | { kind: "matmul"; tensors: { source: T; weights: T; bias?: T; target: T } }
  | { kind: "convolution"; tensors: { source: T; weights: T; bias?: T; target: T }; window: Window }
  | { kind: "convolution-data"; tensors: { diffSource: T; weights: T; diffTarget: T }; window: Window }
  | {
      kind: "convolution-weights";
      tensors: { source: T; diffWeights: T; diffBias?: T; diffTarget: T };
      window: Window;
    }
  /** In oneDNN 2.x source and target share one description. */
  | { kind: "eltwise"; tensors: { source: T; target: T }; algorithm: EltwiseAlgorithm; alpha: number; beta: number }
  | {
      kind: "eltwise-backward";
      tensors: { source: T; diffTarget: T; diffSource: T };
      algorithm: EltwiseAlgorithm;
      alpha: number;
      beta: number;
    }
  | { kind: "binary"; tensors: { source: T; source1: T; target: T }; algorithm: BinaryAlgorithm }
  | { kind: "reduction"; tensors: { source: T; target: T }; algorithm: ReductionAlgorithm }
  | { kind: "softmax"; tensors: { source: T; target: T }; axis: number }
  /** `statistics`: "given" reads mean and variance, "kept" writes them. scale and shift are float32 [C]. In 2.x source and target share one description. */
  | {
      kind: "layer-norm";
      tensors: { source: T; target: T; mean?: T; variance?: T; scale?: T; shift?: T };
      statistics: "given" | "kept" | "internal";
      eps: number;
    }
  | { kind: "reorder"; tensors: { source: T; target: T } };

export type OperationKind = Operation<unknown>["kind"];

/** What is done to a result before it is stored, in order. "sum" adds what the target held. */
export type PostOperation<T> =
  | { kind: "eltwise"; algorithm: EltwiseAlgorithm; alpha: number; beta: number }
  | { kind: "binary"; algorithm: BinaryAlgorithm; operand: T }
  | { kind: "sum"; scale: number };

export type TensorName =
  | "source"
  | "source1"
  | "weights"
  | "bias"
  | "target"
  | "mean"
  | "variance"
  | "scale"
  | "shift"
  | "diffSource"
  | "diffTarget"
  | "diffWeights"
  | "diffBias";
