#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "krul/cuda/cuda_device.cuh"
#include "krul/cuda/device_products.hpp"

namespace krul::cuda {

/// Products by cuBLASLt: rows and weights in bf16, f16 or f32, sums in f32. What it takes to multiply matrices of some
/// shape is looked up once for each.
class CublasProducts {
 public:
  /// @param device  kept by reference
  /// @param type    of rows and weights
  /// @return backend if cuBLASLt or the device fails
  [[nodiscard]] static Result<CublasProducts> open(CudaDevice& device, ElementType type) {
    if (auto status = device.make_current(); !status) return propagate(status);
    cublasLtHandle_t handle = nullptr;
    if (auto status = checked(cublasLtCreate(&handle), "cublasLtCreate"); !status) return propagate(status);
    CublasProducts products(device, type);
    products.handle_ = {handle, [](cublasLtHandle_t mine) { cublasLtDestroy(mine); }};
    auto room = device.allocate(room_bytes);
    if (!room) return propagate(room);
    products.room_ = std::move(*room);
    return products;
  }

  [[nodiscard]] std::string name() const { return "cublas " + std::string(krul::name(type_)); }
  [[nodiscard]] ElementType type() const noexcept { return type_; }

  /// @return backend, naming the call, if cuBLASLt fails or has nothing for the shape
  [[nodiscard]] Status multiply(CudaDevice::Stream& stream, const WeightProduct& product, const ProductMemory&) {
    if (auto status = device_->make_current(); !status) return status;
    auto found = way_of(product);
    if (!found) return propagate(found);
    const Way& way = **found;
    const float one = 1, kept = product.add ? 1.0F : 0.0F;
    return checked(cublasLtMatmul(handle_.get(), way.operation.get(), &one, product.weights, way.weights.get(),
                                  product.rows, way.rows.get(), &kept, product.out, way.out.get(), product.out,
                                  way.out.get(), &way.algorithm, room_.data(), room_bytes, stream.get()),
                   "cublasLtMatmul");
  }

 private:
  static constexpr std::size_t room_bytes = std::size_t{32} << 20;

  struct Destroy {
    void operator()(cublasLtMatmulDesc_t each) const { cublasLtMatmulDescDestroy(each); }
    void operator()(cublasLtMatrixLayout_t each) const { cublasLtMatrixLayoutDestroy(each); }
    void operator()(cublasLtMatmulPreference_t each) const { cublasLtMatmulPreferenceDestroy(each); }
  };
  using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy>;
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;
  using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy>;
  /// How matrices of a shape are multiplied.
  struct Way {
    Operation operation;
    Layout weights, rows, out;
    cublasLtMatmulAlgo_t algorithm;
  };

  CublasProducts(CudaDevice& device, ElementType type) : device_(&device), type_(type) {}

  [[nodiscard]] static Status checked(cublasStatus_t status, const std::string& call) {
    if (status == CUBLAS_STATUS_SUCCESS) return {};
    return fail(ErrorCode::backend,
                call + " failed: " + cublasLtGetStatusString(status) +
                    "; nothing that is saved is lost: run the model on the processor, or in another precision");
  }
  [[nodiscard]] cudaDataType_t cuda_type() const {
    return type_ == ElementType::f32 ? CUDA_R_32F : type_ == ElementType::f16 ? CUDA_R_16F : CUDA_R_16BF;
  }

  /// Matrices by rows are cuBLAS's by columns, turned: out^T [columns, R] = weights^T^T [columns, depth] rows^T.
  [[nodiscard]] Result<const Way*> way_of(const WeightProduct& product) {
    const auto shape = std::tuple(product.count, product.columns, product.depth, product.add);
    if (const auto known = ways_.find(shape); known != ways_.end()) return &known->second;
    Way way;
    Preference preference;
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weights = nullptr, rows = nullptr, out = nullptr;
    cublasLtMatmulPreference_t preferred = nullptr;
    const cublasOperation_t turned = CUBLAS_OP_T;
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    Status status =
        checked(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    way.operation.reset(operation);
    const auto then = [&](const char* name, auto&& call) {
      if (status) status = checked(call(), name);
    };
    const auto layout = [&](cublasLtMatrixLayout_t& to, Layout& owner, cudaDataType_t type, std::size_t height,
                            std::size_t width) {
      then("cublasLtMatrixLayoutCreate",
           [&] { return cublasLtMatrixLayoutCreate(&to, type, height, width, static_cast<std::int64_t>(height)); });
      owner.reset(to);
    };
    then("cublasLtMatmulDescSetAttribute", [&] {
      return cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned);
    });
    layout(weights, way.weights, cuda_type(), product.depth, product.columns);
    layout(rows, way.rows, cuda_type(), product.depth, product.count);
    layout(out, way.out, CUDA_R_32F, product.columns, product.count);
    then("cublasLtMatmulPreferenceCreate", [&] { return cublasLtMatmulPreferenceCreate(&preferred); });
    preference.reset(preferred);
    then("cublasLtMatmulPreferenceSetAttribute", [&] {
      return cublasLtMatmulPreferenceSetAttribute(preferred, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room_bytes,
                                                  sizeof room_bytes);
    });
    // Weights begin where they were laid, rows and results where rooms of the device's memory do.
    const std::uint32_t weight_alignment = 256, row_alignment = 16;
    then("cublasLtMatmulPreferenceSetAttribute", [&] {
      return cublasLtMatmulPreferenceSetAttribute(preferred, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                  &weight_alignment, sizeof weight_alignment);
    });
    for (const auto which : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      then("cublasLtMatmulPreferenceSetAttribute", [&] {
        return cublasLtMatmulPreferenceSetAttribute(preferred, which, &row_alignment, sizeof row_alignment);
      });
    then("cublasLtMatmulAlgoGetHeuristic", [&] {
      return cublasLtMatmulAlgoGetHeuristic(handle_.get(), operation, weights, rows, out, out, preferred, 1, &best,
                                            &count);
    });
    if (!status) return propagate(status);
    if (count == 0)
      return fail(ErrorCode::backend, "cuBLASLt has nothing that multiplies " + std::to_string(product.count) + " x " +
                                          std::to_string(product.depth) + " with " + std::to_string(product.depth) +
                                          " x " + std::to_string(product.columns) + " " +
                                          std::string(krul::name(type_)));
    way.algorithm = best.algo;
    return &ways_.emplace(shape, std::move(way)).first->second;
  }

  CudaDevice* device_;
  ElementType type_;
  std::shared_ptr<cublasLtContext> handle_;
  CudaDevice::Memory room_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, bool>, Way> ways_;
};
static_assert(DeviceProducts<CublasProducts, CudaDevice>);

}  // namespace krul::cuda
