#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/layer_batch.hpp"
#include "krul/backend/lends_hidden_states.hpp"
#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"
#include "krul/cuda/kernels/layer_rows.hpp"
#include "krul/cuda/staging_ring.hpp"
#include "krul/cuda/touching.hpp"
#include "krul/model/layer_ops.hpp"

namespace krul::cuda {

/// A LayerBatch in a device's memory. What it copies and launches is asked for on the model's stream, in order with the
/// model's steps.
template <DeviceApi Device>
class DeviceBatch {
 public:
  /// @param device  kept by reference
  /// @param ring    on the model's stream
  /// @param angles  of the geometry's rotary embedding
  /// @param type    of what attention gives
  DeviceBatch(Device& device, const Geometry& geometry, std::shared_ptr<StagingRing<Device>> ring,
              std::shared_ptr<const RotaryTable> angles, ElementType type)
      : device_(&device),
        ring_(std::move(ring)),
        angles_(std::move(angles)),
        angle_width_(geometry.rotary.dimensions),
        hidden_width_(geometry.hidden),
        query_width_(geometry.query_heads * geometry.head_dim),
        attention_words_((query_width_ * size_of(type) + 3) / 4) {}

  /// Starts a pass over these rows. Keeps its memory from pass to pass, and asks for more with the first step.
  /// @throws PreconditionError unless the positions ascend strictly
  void assign(std::span<const Position> positions) {
    expects(std::ranges::adjacent_find(positions, std::greater_equal<>()) == positions.end(),
            "DeviceBatch: positions must ascend");
    positions_.assign(positions.begin(), positions.end());
    lent_ = placed_ = false;
  }

  DeviceBatch(DeviceBatch&&) noexcept = default;
  DeviceBatch& operator=(DeviceBatch&&) noexcept = default;

  [[nodiscard]] std::span<const Position> positions() const noexcept { return positions_; }
  [[nodiscard]] std::size_t rows() const noexcept { return positions_.size(); }

  /// Drops every row that is not named; the rest move up. Between any two steps of a layer.
  /// @throws PreconditionError if the ranges overlap, descend or exceed the rows; ResultError if the device fails
  void keep(std::span<const RowRange> ranges) {
    std::vector<std::uint32_t> kept;
    std::size_t last_end = 0;
    for (const RowRange& range : ranges) {
      expects(range.begin >= last_end && range.begin <= range.end && range.end <= rows(),
              "DeviceBatch: rows to keep must ascend within the batch");
      for (std::size_t row = last_end = range.begin; row < range.end; ++row)
        kept.push_back(static_cast<std::uint32_t>(row));
      last_end = range.end;
    }
    if (kept.size() == rows()) return;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      positions_[i] = positions_[kept[i]];
      if (lent_) std::copy_n(&host_hidden_[kept[i] * hidden_width_], hidden_width_, &host_hidden_[i * hidden_width_]);
    }
    positions_.resize(kept.size());
    if (lent_) host_hidden_.resize(kept.size() * hidden_width_);
    if (kept.empty() || !placed_) return;
    ring_->to_device(bytes(kept_at()), std::as_bytes(std::span(kept)));
    const auto count = static_cast<std::uint32_t>(kept.size());
    for (const auto& [at, width] : {std::pair(positions_at(), std::size_t{1}), std::pair(angles_at(), angle_width_),
                                    std::pair(hidden_at(), hidden_width_), std::pair(queries_at(), query_width_),
                                    std::pair(attention_at(), attention_words_)}) {
      const KeepRows move{at, spare_at(), kept_at(), count, static_cast<std::uint32_t>(width)};
      or_throw(device_->launch(ring_->stream(), Touching{move, std::array{memory()}}, {count, 128}));
      or_throw(device_->copy(ring_->stream(), {at, spare_at(), count * width * sizeof(std::uint32_t)}));
    }
  }

  /// The hidden states, [R, hidden], in the host's memory until the next step, which goes on with what stands there
  /// then.
  /// @throws ResultError if the device fails
  [[nodiscard]] std::span<float> hidden() {
    if (!std::exchange(lent_, true)) {
      host_hidden_.resize(rows() * hidden_width_);
      if (!placed_) return host_hidden_;  // there are none yet
      ring_->from_device(std::as_writable_bytes(std::span(host_hidden_)), bytes(hidden_at()));
      ring_->finish_reads();
    }
    return host_hidden_;
  }
  /// The same for new ones: what was there is not asked for.
  [[nodiscard]] std::span<float> new_hidden() {
    host_hidden_.resize(rows() * hidden_width_);
    lent_ = true;
    return host_hidden_;
  }
  /// Before a step: the rows are on the device, with the hidden states that were lent.
  /// @throws PreconditionError if a position lies outside the context; ResultError if the device has no memory for them
  void settle() {
    if (!placed_) place();
    if (std::exchange(lent_, false))
      ring_->to_device(bytes(hidden_at()), std::as_bytes(std::span<const float>(host_hidden_)));
  }

  // For kernels on the model's stream.
  [[nodiscard]] const std::uint32_t* device_positions() const { return positions_at(); }  ///< [R]
  [[nodiscard]] const float* device_angles() const {
    return reinterpret_cast<const float*>(angles_at());
  }                                                                                               ///< [R, 2, .]
  [[nodiscard]] float* device_hidden() const { return reinterpret_cast<float*>(hidden_at()); }    ///< [R, hidden]
  [[nodiscard]] float* device_queries() const { return reinterpret_cast<float*>(queries_at()); }  ///< [R, H, D]
  [[nodiscard]] std::byte* device_attention() const { return bytes(attention_at()); }             ///< [R, H, D]
  [[nodiscard]] TouchedBytes memory() const {
    return {bytes(hidden_at()), capacity_ * row_words() * sizeof(std::uint32_t), true};
  }

 private:
  void place() {
    if (rows() > capacity_) {
      memory_.reset();
      capacity_ = 0;
      const std::size_t rounded = (rows() + 3) / 4 * 4;  // each array begins at 16 bytes
      memory_.emplace(or_throw(device_->allocate(rounded * row_words() * sizeof(std::uint32_t))));
      capacity_ = rounded;
    }
    std::vector<float> angles(rows() * angle_width_);
    for (std::size_t row = 0; row < rows(); ++row)
      angles_->angles(positions_[row], std::span(angles).subspan(row * angle_width_, angle_width_));
    ring_->to_device(bytes(positions_at()), std::as_bytes(std::as_const(*this).positions()));
    ring_->to_device(bytes(angles_at()), std::as_bytes(std::span(angles)));
    placed_ = true;
  }

  // Words of a row: hidden, queries, attention, angles, position, kept, and room to move the widest of them.
  [[nodiscard]] std::size_t row_words() const {
    const std::size_t spare = std::max({hidden_width_, query_width_, attention_words_, angle_width_});
    return hidden_width_ + query_width_ + attention_words_ + angle_width_ + 2 + spare;
  }
  [[nodiscard]] std::uint32_t* at(std::size_t words) const {
    return memory_ ? reinterpret_cast<std::uint32_t*>(memory_->data()) + words * capacity_ : nullptr;
  }
  [[nodiscard]] std::uint32_t* hidden_at() const { return at(0); }
  [[nodiscard]] std::uint32_t* queries_at() const { return at(hidden_width_); }
  [[nodiscard]] std::uint32_t* attention_at() const { return at(hidden_width_ + query_width_); }
  [[nodiscard]] std::uint32_t* angles_at() const { return at(hidden_width_ + query_width_ + attention_words_); }
  [[nodiscard]] std::uint32_t* positions_at() const {
    return at(hidden_width_ + query_width_ + attention_words_ + angle_width_);
  }
  [[nodiscard]] std::uint32_t* kept_at() const {
    return at(hidden_width_ + query_width_ + attention_words_ + angle_width_ + 1);
  }
  [[nodiscard]] std::uint32_t* spare_at() const {
    return at(hidden_width_ + query_width_ + attention_words_ + angle_width_ + 2);
  }
  [[nodiscard]] static std::byte* bytes(std::uint32_t* words) { return reinterpret_cast<std::byte*>(words); }

  Device* device_;
  std::shared_ptr<StagingRing<Device>> ring_;
  std::shared_ptr<const RotaryTable> angles_;
  std::size_t angle_width_, hidden_width_, query_width_, attention_words_, capacity_ = 0;
  std::vector<Position> positions_;
  std::vector<float> host_hidden_;
  bool lent_ = false;    // the host's hidden states are those that count
  bool placed_ = false;  // the rows are on the device
  std::optional<typename Device::Memory> memory_;
};

}  // namespace krul::cuda
