#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "device_timer.cuh"
#include "krul/cuda/cublas_products.cuh"
#include "krul/cuda/staging_ring.hpp"
#include "krul/simulate/model_shape.hpp"

namespace krul::bench {

/// The products of a pass by cuBLASLt and nothing else: what of the matrices cannot be faster with it.
class ProductsAlone {
 public:
  /// @param numbers  bf16, for weights and rows
  ProductsAlone(cuda::CudaDevice& device, const simulate::ModelShape& shape, std::span<const std::byte> numbers)
      : shape_(shape), products_(or_throw(cuda::CublasProducts::open(device, ElementType::bf16))) {
    const std::size_t widest = 2 * shape.feed_forward;
    weights_ = or_throw(device.allocate(2 * (layer_weights() + widest * shape.hidden)));
    rows_ = or_throw(device.allocate(2 * most_rows * widest));
    out_ = or_throw(device.allocate(4 * most_rows * std::max(widest, shape.vocabulary / most_rows + 1)));
    auto stream = or_throw(device.make_stream());
    cuda::StagingRing<cuda::CudaDevice> ring(device, stream, {});
    for (const auto& [to, bytes] :
         {std::pair(weights_.data(), 2 * layer_weights()), std::pair(rows_.data(), 2 * most_rows * widest)})
      for (std::size_t at = 0; at < bytes;) {
        const std::size_t piece = std::min(bytes - at, numbers.size());
        ring.to_device(to + at, numbers.first(piece));
        at += piece;
      }
  }

  /// Seconds of one layer's four products.
  [[nodiscard]] double layer_s(DeviceTimer& timer, std::size_t rows) {
    const std::size_t queries = shape_.query_heads * shape_.head_dim, mlp = shape_.feed_forward;
    return timer.median_s([&] {
      std::size_t at = 0;
      const auto multiply = [&](std::size_t columns, std::size_t depth) {
        for (std::size_t first = 0; first < rows; first += tile_rows)
          or_throw(products_.multiply(timer.stream(),
                                      {.rows = rows_.data(),
                                       .weights = weights_.data() + 2 * at,
                                       .out = reinterpret_cast<float*>(out_.data()),
                                       .count = static_cast<std::uint32_t>(std::min(tile_rows, rows - first)),
                                       .columns = static_cast<std::uint32_t>(columns),
                                       .depth = static_cast<std::uint32_t>(depth)},
                                      {}));
        at += columns * depth;
      };
      multiply(queries + 2 * shape_.kv_values(), shape_.hidden);
      multiply(shape_.hidden, queries);
      multiply(2 * mlp, shape_.hidden);
      multiply(shape_.hidden, mlp);
    });
  }
  /// FLOP/s of one large square product: the most that cuBLASLt reaches.
  [[nodiscard]] double peak_flops(DeviceTimer& timer) {
    const std::uint32_t side = static_cast<std::uint32_t>(shape_.hidden / 512 * 512);
    const double seconds = timer.median_s([&] {
      or_throw(products_.multiply(timer.stream(),
                                  {.rows = rows_.data(),
                                   .weights = weights_.data(),
                                   .out = reinterpret_cast<float*>(out_.data()),
                                   .count = side,
                                   .columns = 2 * side,
                                   .depth = side},
                                  {}));
    });
    return 4.0 * side * side * side / seconds;
  }

 private:
  static constexpr std::size_t tile_rows = 1024, most_rows = 4096;  // as DeviceBackend cuts them; and no more than this

  [[nodiscard]] std::size_t layer_weights() const {
    return static_cast<std::size_t>(shape_.projection_weights() + shape_.finish_weights());
  }

  simulate::ModelShape shape_;
  cuda::CublasProducts products_;
  cuda::CudaDevice::Memory weights_, rows_, out_;
};

}  // namespace krul::bench
