// The seam between oneDNN 2.x and 3.x: everything that differs between them, behind one interface, and nothing else.
// 2.x: memory descriptors and operation descriptors are C structs that the caller holds; 3.x: opaque handles.
// The structs of 2.x are never read here, only given room (more than any minor version needs), so minors do not matter.
import koffi from "koffi";
import { check, type Handle, type Library, type Status } from "./onednn-library.ts";
import type {
  BinaryAlgorithm,
  EltwiseAlgorithm,
  OneDnnType,
  Operation,
  PostOperation,
  ReductionAlgorithm,
} from "./onednn-operations.ts";

export interface Versioned {
  /** Makes a memory descriptor. `dims` and `strides` are addresses of int64 arrays; without strides, "any". */
  createDescriptor(rank: number, dims: Handle, dtype: OneDnnType, strides: Handle | undefined): Handle;
  destroyDescriptor(descriptor: Handle): void;
  /** A copy that outlives the primitive `descriptor` belongs to. */
  cloneDescriptor(descriptor: Handle, rank: number): Handle;
  /** Creates a primitive descriptor into `out`; a status, so that a caller may try another form. */
  describe(operation: Operation<Handle>, attributes: Handle, engine: Handle, out: Handle, dims: DimsWriter): Status;
  appendPostOperation(postOps: Handle, operation: PostOperation<Handle>): void;
  /** The argument number of the operand of post-operation `index`. */
  postOperationArgument(index: number): number;
}

/** Writes an int64 array into native scratch memory and gives its address. */
export type DimsWriter = (values: readonly number[]) => Handle;

const FORWARD_TRAINING = 64;
const FORWARD_INFERENCE = 96;
const CONVOLUTION_DIRECT = 1;
const TAG_ANY = 1;
const SOFTMAX_ACCURATE = 0x30000;
/** The forward primitive a backward one may be matched to; CPUs need none. */
const NO_HINT: Handle = 0;
const USE_GLOBAL_STATS = 1;

const typeCodes: Record<OneDnnType, number> = { f16: 1, bf16: 2, f32: 3, i32: 4, i8: 5, u8: 6 };
const binaryCodes: Record<BinaryAlgorithm, number> = {
  add: 0x1fff0,
  multiply: 0x1fff1,
  divide: 0x1fff4,
  subtract: 0x1fff5,
};
// The enumeration counts on from dnnl_resampling_linear = 0x2fff1.
const reductionCodes: Record<ReductionAlgorithm, number> = { max: 0x2fff2, sum: 0x2fff4 };

const eltwiseCodes: Record<2 | 3, Record<EltwiseAlgorithm, number>> = {
  2: { linear: 0x7f, "gelu-tanh": 0xcf, "gelu-erf": 0x30, swish: 0xdf, exp: 0xbf, sqrt: 0x6f },
  3: { linear: 38, "gelu-tanh": 43, "gelu-erf": 49, swish: 44, exp: 42, sqrt: 37 },
};

/** Declares `name` with `u` for an address, `i` for an int, `w` for an unsigned and `f` for a float. */
function declare(library: Library, name: string, signature: string): (...args: number[]) => Status {
  const types: Record<string, string> = { u: "uintptr_t", i: "int", w: "unsigned int", f: "float" };
  return library.handle.func(
    name,
    "int",
    [...signature].map((letter) => types[letter]!),
  ) as (...args: number[]) => Status;
}

/** The layer norm's flags: both versions have them, at other bits. */
function normFlags(operation: Operation<Handle> & { kind: "layer-norm" }, scale: number, shift: number): number {
  const { statistics, tensors } = operation;
  return (
    (statistics === "given" ? USE_GLOBAL_STATS : 0) |
    (tensors.scale === undefined ? 0 : scale) |
    (tensors.shift === undefined ? 0 : shift)
  );
}

const normDirection = (operation: Operation<Handle> & { kind: "layer-norm" }): number =>
  operation.statistics === "kept" ? FORWARD_TRAINING : FORWARD_INFERENCE;

function version2(library: Library): Versioned {
  const DESCRIPTOR_BYTES = 4096;
  const OPERATION_BYTES = 65_536;
  const operationSpace = Number(koffi.alloc("uint8_t", OPERATION_BYTES));
  const spaces = new Map<Handle, bigint>();
  const byStrides = declare(library, "dnnl_memory_desc_init_by_strides", "uiuiu");
  const byTag = declare(library, "dnnl_memory_desc_init_by_tag", "uiuii");
  const permuteAxes = declare(library, "dnnl_memory_desc_permute_axes", "uuu");
  const create = declare(library, "dnnl_primitive_desc_create", "uuuuu");
  const matmul = declare(library, "dnnl_matmul_desc_init", "uuuuu");
  const convolution = declare(library, "dnnl_convolution_forward_desc_init", "uiiuuuuuuu");
  const convolutionData = declare(library, "dnnl_convolution_backward_data_desc_init", "uiuuuuuu");
  const convolutionWeights = declare(library, "dnnl_convolution_backward_weights_desc_init", "uiuuuuuuu");
  const eltwise = declare(library, "dnnl_eltwise_forward_desc_init", "uiiuff");
  const eltwiseBackward = declare(library, "dnnl_eltwise_backward_desc_init", "uiuuff");
  const binary = declare(library, "dnnl_binary_desc_init", "uiuuu");
  const reduction = declare(library, "dnnl_reduction_desc_init", "uiuuff");
  const softmax = declare(library, "dnnl_softmax_v2_forward_desc_init", "uiiuui");
  const layerNorm = declare(library, "dnnl_layer_normalization_forward_desc_init", "uiuufw");
  const appendSum = declare(library, "dnnl_post_ops_append_sum", "uf");
  const appendEltwise = declare(library, "dnnl_post_ops_append_eltwise", "ufiff");
  const { reorder, postOpsBinary } = library.calls;

  function reserveDescriptor(): Handle {
    const space = koffi.alloc("uint8_t", DESCRIPTOR_BYTES) as bigint;
    spaces.set(Number(space), space);
    return Number(space);
  }

  /** Fills the operation's struct. */
  function initialise(operation: Operation<Handle>, dims: DimsWriter): Status {
    const into = operationSpace;
    switch (operation.kind) {
      case "matmul": {
        const { source, weights, bias = 0, target } = operation.tensors;
        return matmul(into, source, weights, bias, target);
      }
      case "convolution": {
        const { source, weights, bias = 0, target } = operation.tensors;
        const [strides, before, after] = windowDims(operation.window, dims);
        return convolution(
          into,
          FORWARD_INFERENCE,
          CONVOLUTION_DIRECT,
          source,
          weights,
          bias,
          target,
          strides,
          before,
          after,
        );
      }
      case "convolution-data": {
        const { diffSource, weights, diffTarget } = operation.tensors;
        const [strides, before, after] = windowDims(operation.window, dims);
        return convolutionData(into, CONVOLUTION_DIRECT, diffSource, weights, diffTarget, strides, before, after);
      }
      case "convolution-weights": {
        const { source, diffWeights, diffBias = 0, diffTarget } = operation.tensors;
        const [strides, before, after] = windowDims(operation.window, dims);
        return convolutionWeights(
          into,
          CONVOLUTION_DIRECT,
          source,
          diffWeights,
          diffBias,
          diffTarget,
          strides,
          before,
          after,
        );
      }
      case "eltwise": {
        const { algorithm, alpha, beta, tensors } = operation;
        return eltwise(into, FORWARD_INFERENCE, eltwiseCodes[2][algorithm], tensors.source, alpha, beta);
      }
      case "eltwise-backward": {
        const { algorithm, alpha, beta, tensors } = operation;
        return eltwiseBackward(into, eltwiseCodes[2][algorithm], tensors.diffTarget, tensors.source, alpha, beta);
      }
      case "binary": {
        const { source, source1, target } = operation.tensors;
        return binary(into, binaryCodes[operation.algorithm], source, source1, target);
      }
      case "reduction": {
        const { source, target } = operation.tensors;
        return reduction(into, reductionCodes[operation.algorithm], source, target, 0, 0);
      }
      case "softmax": {
        const { source, target } = operation.tensors;
        return softmax(into, FORWARD_INFERENCE, SOFTMAX_ACCURATE, source, target, operation.axis);
      }
      case "layer-norm": {
        const { source, mean = 0 } = operation.tensors;
        return layerNorm(into, normDirection(operation), source, mean, operation.eps, normFlags(operation, 8, 16));
      }
      case "reorder":
        return 0;
    }
  }

  return {
    createDescriptor(rank, dims, dtype, strides) {
      const descriptor = reserveDescriptor();
      const code = typeCodes[dtype];
      check(
        strides === undefined
          ? byTag(descriptor, rank, dims, code, TAG_ANY)
          : byStrides(descriptor, rank, dims, code, strides),
        "a memory descriptor",
      );
      return descriptor;
    },
    cloneDescriptor(descriptor, rank) {
      const copy = reserveDescriptor();
      const identity = new Int32Array(koffi.view(BigInt(operationSpace), 4 * rank));
      for (let axis = 0; axis < rank; axis++) identity[axis] = axis;
      check(permuteAxes(copy, descriptor, operationSpace), "to copy a memory descriptor");
      return copy;
    },
    destroyDescriptor(descriptor) {
      koffi.free(spaces.get(descriptor));
      spaces.delete(descriptor);
    },
    describe(operation, attributes, engine, out, dims) {
      if (operation.kind === "reorder") {
        return reorder(out, operation.tensors.source, engine, operation.tensors.target, engine, attributes);
      }
      return initialise(operation, dims) || create(out, operationSpace, attributes, engine, 0);
    },
    appendPostOperation(postOps, operation) {
      switch (operation.kind) {
        case "eltwise": {
          const code = eltwiseCodes[2][operation.algorithm];
          check(appendEltwise(postOps, 1, code, operation.alpha, operation.beta), "a post-operation");
          return;
        }
        case "binary":
          check(postOpsBinary(postOps, binaryCodes[operation.algorithm], operation.operand), "a post-operation");
          return;
        case "sum":
          check(appendSum(postOps, operation.scale), "a post-operation");
      }
    },
    postOperationArgument: (index) => (16_384 * (index + 1)) | 2,
  };
}

function windowDims(
  window: { strides: readonly number[]; paddingBefore: readonly number[]; paddingAfter: readonly number[] },
  dims: DimsWriter,
): [strides: Handle, before: Handle, after: Handle] {
  return [dims(window.strides), dims(window.paddingBefore), dims(window.paddingAfter)];
}

function version3(library: Library): Versioned {
  const slot = Number(koffi.alloc("uint64_t", 1));
  const slotView = new BigUint64Array(koffi.view(BigInt(slot), 8));
  const withStrides = declare(library, "dnnl_memory_desc_create_with_strides", "uiuiu");
  const withTag = declare(library, "dnnl_memory_desc_create_with_tag", "uiuii");
  const destroy = declare(library, "dnnl_memory_desc_destroy", "u");
  const clone = declare(library, "dnnl_memory_desc_clone", "uu");
  const matmul = declare(library, "dnnl_matmul_primitive_desc_create", "uuuuuuu");
  const convolution = declare(library, "dnnl_convolution_forward_primitive_desc_create", "uuiiuuuuuuuuu");
  const convolutionData = declare(library, "dnnl_convolution_backward_data_primitive_desc_create", "uuiuuuuuuuuu");
  const convolutionWeights = declare(
    library,
    "dnnl_convolution_backward_weights_primitive_desc_create",
    "uuiuuuuuuuuuu",
  );
  const eltwise = declare(library, "dnnl_eltwise_forward_primitive_desc_create", "uuiiuuffu");
  const eltwiseBackward = declare(library, "dnnl_eltwise_backward_primitive_desc_create", "uuiuuuffuu");
  const binary = declare(library, "dnnl_binary_primitive_desc_create", "uuiuuuu");
  const reduction = declare(library, "dnnl_reduction_primitive_desc_create", "uuiuuffu");
  const softmax = declare(library, "dnnl_softmax_forward_primitive_desc_create", "uuiiuuiu");
  const layerNorm = declare(library, "dnnl_layer_normalization_forward_primitive_desc_create", "uuiuuufwu");
  const appendSum = declare(library, "dnnl_post_ops_append_sum", "ufii");
  const appendEltwise = declare(library, "dnnl_post_ops_append_eltwise", "uiff");
  const { reorder, postOpsBinary } = library.calls;

  function describe(
    operation: Operation<Handle>,
    attributes: Handle,
    engine: Handle,
    out: Handle,
    dims: DimsWriter,
  ): Status {
    switch (operation.kind) {
      case "matmul": {
        const { source, weights, bias = 0, target } = operation.tensors;
        return matmul(out, engine, source, weights, bias, target, attributes);
      }
      case "convolution": {
        const { source, weights, bias = 0, target } = operation.tensors;
        const [strides, before, after] = windowDims(operation.window, dims);
        const dilates = dims(operation.window.strides.map(() => 0));
        return convolution(
          out,
          engine,
          FORWARD_INFERENCE,
          CONVOLUTION_DIRECT,
          source,
          weights,
          bias,
          target,
          strides,
          dilates,
          before,
          after,
          attributes,
        );
      }
      case "convolution-data": {
        const { diffSource, weights, diffTarget } = operation.tensors;
        const [strides, before, after] = windowDims(operation.window, dims);
        const dilates = dims(operation.window.strides.map(() => 0));
        return convolutionData(
          out,
          engine,
          CONVOLUTION_DIRECT,
          diffSource,
          weights,
          diffTarget,
          strides,
          dilates,
          before,
          after,
          NO_HINT,
          attributes,
        );
      }
      case "convolution-weights": {
        const { source, diffWeights, diffBias = 0, diffTarget } = operation.tensors;
        const [strides, before, after] = windowDims(operation.window, dims);
        const dilates = dims(operation.window.strides.map(() => 0));
        return convolutionWeights(
          out,
          engine,
          CONVOLUTION_DIRECT,
          source,
          diffWeights,
          diffBias,
          diffTarget,
          strides,
          dilates,
          before,
          after,
          NO_HINT,
          attributes,
        );
      }
      case "eltwise": {
        const { algorithm, alpha, beta, tensors } = operation;
        return eltwise(
          out,
          engine,
          FORWARD_INFERENCE,
          eltwiseCodes[3][algorithm],
          tensors.source,
          tensors.target,
          alpha,
          beta,
          attributes,
        );
      }
      case "eltwise-backward": {
        const { algorithm, alpha, beta, tensors } = operation;
        const { source, diffTarget, diffSource } = tensors;
        return eltwiseBackward(
          out,
          engine,
          eltwiseCodes[3][algorithm],
          diffSource,
          diffTarget,
          source,
          alpha,
          beta,
          NO_HINT,
          attributes,
        );
      }
      case "binary": {
        const { source, source1, target } = operation.tensors;
        return binary(out, engine, binaryCodes[operation.algorithm], source, source1, target, attributes);
      }
      case "reduction": {
        const { source, target } = operation.tensors;
        return reduction(out, engine, reductionCodes[operation.algorithm], source, target, 0, 0, attributes);
      }
      case "softmax": {
        const { source, target } = operation.tensors;
        return softmax(out, engine, FORWARD_INFERENCE, SOFTMAX_ACCURATE, source, target, operation.axis, attributes);
      }
      case "layer-norm": {
        const { source, target, mean = 0 } = operation.tensors;
        const flags = normFlags(operation, 2, 4);
        return layerNorm(out, engine, normDirection(operation), source, target, mean, operation.eps, flags, attributes);
      }
      case "reorder":
        return reorder(out, operation.tensors.source, engine, operation.tensors.target, engine, attributes);
    }
  }

  return {
    createDescriptor(rank, dims, dtype, strides) {
      const code = typeCodes[dtype];
      check(
        strides === undefined ? withTag(slot, rank, dims, code, TAG_ANY) : withStrides(slot, rank, dims, code, strides),
        "a memory descriptor",
      );
      return Number(slotView[0]);
    },
    cloneDescriptor(descriptor) {
      check(clone(slot, descriptor), "to copy a memory descriptor");
      return Number(slotView[0]);
    },
    destroyDescriptor: (descriptor) => check(destroy(descriptor), "to free a memory descriptor"),
    describe,
    appendPostOperation(postOps, operation) {
      switch (operation.kind) {
        case "eltwise": {
          const code = eltwiseCodes[3][operation.algorithm];
          check(appendEltwise(postOps, code, operation.alpha, operation.beta), "a post-operation");
          return;
        }
        case "binary":
          check(postOpsBinary(postOps, binaryCodes[operation.algorithm], operation.operand), "a post-operation");
          return;
        case "sum":
          check(appendSum(postOps, operation.scale, 0, 0), "a post-operation");
      }
    },
    postOperationArgument: (index) => (32_768 * (index + 1)) | 2,
  };
}

export function versioned(library: Library): Versioned {
  return library.version.major === 2 ? version2(library) : version3(library);
}
