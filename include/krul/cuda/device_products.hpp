#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>

#include "krul/core/error.hpp"
#include "krul/cuda/kernels/multiply_weights.hpp"
#include "krul/cuda/touching.hpp"

namespace krul::cuda {

/// The memory that a product reads and writes, as whoever asks for it knows.
using ProductMemory = std::array<TouchedBytes, 3>;

/// Multiplies rows of activations with weights on a stream of a device: cuBLASLt, or krul's own kernel.
template <class P, class Device>
concept DeviceProducts = requires(P& products, const P& read, typename Device::Stream& stream,
                                  const WeightProduct& product, const ProductMemory& memory) {
  { read.name() } -> std::same_as<std::string>;  ///< "cublas bf16"
  { read.type() } -> std::same_as<ElementType>;  ///< of rows and weights
  { products.multiply(stream, product, memory) } -> std::same_as<Status>;
};

/// Products by krul's own kernel: on any device, slowly, and without cuBLAS.
template <DeviceApi Device>
class KernelProducts {
 public:
  /// @param device  kept by reference
  /// @param type    of rows and weights
  KernelProducts(Device& device, ElementType type) : device_(&device), type_(type) {}

  [[nodiscard]] std::string name() const { return "cuda kernels " + std::string(krul::name(type_)); }
  [[nodiscard]] ElementType type() const noexcept { return type_; }
  [[nodiscard]] Status multiply(typename Device::Stream& stream, const WeightProduct& product,
                                const ProductMemory& memory) {
    return device_->launch(stream, Touching{MultiplyWeights{product, type_}, memory},
                           {(product.columns + 127) / 128, 128});
  }

 private:
  Device* device_;
  ElementType type_;
};

}  // namespace krul::cuda
