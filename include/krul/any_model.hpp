#pragma once

#include "krul/backend/either_backend.hpp"
#include "krul/cuda/cuda_model.hpp"
#include "krul/model/load.hpp"

namespace krul {

/// krul's own model on the processor or on a CUDA device, whichever it was loaded for: link krul::cuda_model.
using AnyModel = EitherBackend<CpuModel, cuda::CudaModel>;
static_assert(ModelBackend<AnyModel> && BatchesCaches<AnyModel> && LendsWorkers<AnyModel> && DecodesChunks<AnyModel>);
static_assert(HostViewableCache<AnyModel::Cache> && LendsHiddenStates<AnyModel::Batch>);

}  // namespace krul
