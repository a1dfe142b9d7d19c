#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/cuda/device_api.hpp"
#include "krul/cuda/kernel_block.hpp"

namespace krul::cuda {

/// What a layer's attention weights add to RowAttention::squares of its band: for each key the sum over rows of times
/// the sum over heads of squared weights, in the order of rows, as RowAttentionEstimator adds them. Layers of a band
/// come one after another. A thread a key.
struct AddSquaredWeights {
  const float* weights;             ///< [H, W, K], 0 where causality forbids
  const float* times;               ///< [W] what each row counts; 0: it is left out
  float* squares;                   ///< [K]
  std::uint32_t heads, rows, keys;  ///< H, W, K

  [[nodiscard]] Launch launch() const {
    constexpr unsigned threads = 128;
    return {.blocks = (keys + threads - 1) / threads, .threads = threads};
  }

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    for (std::uint32_t key = block.index() * block.threads() + block.thread(); key < keys;
         key += block.blocks() * block.threads()) {
      float all = squares[key];
      for (std::uint32_t row = 0; row < rows; ++row) {
        if (times[row] == 0) continue;
        float sum = 0;
        for (std::uint32_t head = 0; head < heads; ++head) {
          const float weight = weights[(std::size_t{head} * rows + row) * keys + key];
          sum += weight * weight;
        }
        all += times[row] * sum;
      }
      squares[key] = all;
    }
  }
};

}  // namespace krul::cuda
