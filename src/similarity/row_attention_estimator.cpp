#include "krul/similarity/row_attention_estimator.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "krul/core/error.hpp"

namespace krul {
namespace {

float float_of(std::uint16_t bf16) {
  return std::bit_cast<float>(std::uint32_t{bf16} << 16);
}

}  // namespace

RowAttentionEstimator::RowAttentionEstimator(const Geometry& geometry, std::vector<std::size_t> bands)
    : attention_(std::move(bands)), heads_(geometry.query_heads) {
  for (std::size_t band = 0; band < attention_.bands(); ++band)
    band_of_.insert(band_of_.end(), attention_.band_layers[band], band);
  expects(band_of_.size() == geometry.layers, "RowAttentionEstimator: the bands are not the model's layers");
}

void RowAttentionEstimator::load(const RowAttention& earlier) {
  if (earlier.band_layers == attention_.band_layers) attention_ = earlier;
}

void RowAttentionEstimator::observe_from(Position position) {
  first_ = next_ = position;
  attention_.truncate(position);
}

void RowAttentionEstimator::observe_until(Position end) noexcept {
  near_ = end - std::min(end, static_cast<Position>(most_counted));
}

std::size_t RowAttentionEstimator::block_rows() const noexcept {
  const std::size_t cells = heads_ * ((next_ + most_rows) / LentWeights::cell_keys + 1);
  const std::size_t unseen = std::max(near_, next_) - next_;
  return std::clamp<std::size_t>(unseen + most_bytes / (cells * lent_bytes), 1, most_rows);
}

bool RowAttentionEstimator::wants(Position query) const noexcept {
  return query >= std::max(first_, near_);
}

void RowAttentionEstimator::begin_layer(std::size_t layer, std::span<const Position> positions) {
  expects(layer < band_of_.size(), "RowAttentionEstimator: no such layer");
  wanted_.clear();
  for (const Position query : positions)
    if (looks_at(layer, query)) wanted_.push_back(query);
  if (layer > 0 || positions.empty()) return;
  const Position end = positions.back() + 1;
  attention_.reserve_rows(end);
  if (end > next_) attention_.age(end - next_);
  next_ = std::max(next_, end);
  for (const Position query : positions)
    if (wants(query)) attention_.counted += attention_.weight_of_age(next_ - 1 - query);
}

LentWeights RowAttentionEstimator::lend(std::size_t layer, std::span<const Position> positions) {
  begin_layer(layer, positions);
  if (wanted_.empty()) return {};
  slots_.clear();
  cells_.assign(1, 0);
  for (const Position query : positions) {
    const bool wanted = looks_at(layer, query);
    slots_.push_back(wanted ? static_cast<std::uint32_t>(cells_.size() - 1) : LentWeights::no_slot);
    if (wanted) cells_.push_back(cells_.back() + static_cast<std::uint32_t>(query / LentWeights::cell_keys + 1));
  }
  const std::size_t cells = heads_ * cells_.back();
  room_.reserve(cells * lent_bytes);
  auto* const factors = reinterpret_cast<float*>(room_.data() + cells * cell_bytes);
  chunk_ = {room_.as<std::uint16_t>().data(), factors, factors + cells};
  return {.layer = 0,
          .layers = 1,
          .slots = slots_,
          .cells = cells_,
          .chunk_cells = cells,
          .chunks = std::span(&chunk_, 1),
          .negligible = 0x1p-12F,
          .read_soon = true};
}

void RowAttentionEstimator::take(std::size_t layer, std::span<const Position>) {
  constexpr std::size_t cell_keys = LentWeights::cell_keys;
  for (std::size_t slot = 0; slot < wanted_.size(); ++slot) {
    const Position query = wanted_[slot];
    squares_.assign((query / cell_keys + 1) * cell_keys, 0.0F);
    for (std::size_t head = 0; head < heads_; ++head)
      for (std::size_t number = 0; number <= query / cell_keys; ++number) {
        const std::size_t cell = head * cells_.back() + cells_[slot] + number;
        const float factor = chunk_.factors[cell] * chunk_.factors[cell];
        if (factor == 0) continue;
        const std::uint16_t* const values = chunk_.values + cell * cell_keys;
        float* const to = &squares_[number * cell_keys];
        const std::size_t count = LentWeights::written(query, number);
        for (std::size_t key = 0; key < count; ++key) {
          const float value = float_of(values[key]);
          to[key] += factor * (value * value);
        }
      }
    add_row(layer, query);
  }
}

void RowAttentionEstimator::operator()(const AttentionBlock& block) {
  const std::size_t rows = block.queries.size();
  expects(block.query_heads == heads_ && block.weights.size() == heads_ * rows * block.keys &&
              (rows == 0 || block.queries.back() < block.keys),
          "RowAttentionEstimator: the block's weights do not belong to its rows and keys");
  begin_layer(block.layer, block.queries);
  for (std::size_t row = 0; row < rows; ++row) {
    const Position query = block.queries[row];
    if (!looks_at(block.layer, query)) continue;
    squares_.assign(query + std::size_t{1}, 0.0F);
    for (std::size_t head = 0; head < heads_; ++head) {
      const float* const weights = &block.weights[(head * rows + row) * block.keys];
      for (std::size_t key = 0; key <= query; ++key) squares_[key] += weights[key] * weights[key];
    }
    add_row(block.layer, query);
  }
}

std::span<const float> RowAttentionEstimator::counts(std::size_t layer, std::span<const Position> positions) {
  begin_layer(layer, positions);
  counts_.clear();
  for (const Position query : positions) counts_.push_back(looks_at(layer, query) ? times_of(query) : 0);
  return counts_;
}

void RowAttentionEstimator::take_squares(std::size_t layer, std::span<const float> squares) {
  expects(layer < band_of_.size() && squares.size() <= attention_.rows,
          "RowAttentionEstimator: sums of a layer or of keys that there are not");
  float* const to = attention_.squares.data() + band_of_[layer] * attention_.rows;
  for (std::size_t key = 0; key < squares.size(); ++key) to[key] += squares[key];
}

float RowAttentionEstimator::times_of(Position query) const noexcept {
  return static_cast<float>(layers_apart * attention_.weight_of_age(next_ - 1 - query));
}

void RowAttentionEstimator::add_row(std::size_t layer, Position query) {
  const std::size_t first = band_of_[layer] * attention_.rows;
  const float times = times_of(query);
  for (std::size_t key = 0; key <= query; ++key) attention_.squares[first + key] += times * squares_[key];
}

}  // namespace krul
