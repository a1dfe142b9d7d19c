// What BlockAttention keeps of its weights.
#include <algorithm>
#include <cmath>

#include "attention_kernels.hpp"
#include "krul/core/error.hpp"
#include "krul/model/attention.hpp"

namespace krul {
using detail::up_to_whole, detail::most_group_rows;

std::size_t BlockAttention::weights_row(const AttentionInput& input, std::size_t head, std::size_t row) {
  return (head * input.positions.size() + row) * (input.positions.back() + std::size_t{1});
}

/// Weights of a group on a block's keys, as f32 that lack their row's factor.
void BlockAttention::show_group(const AttentionInput& input, const GroupPlace& place, const detail::ScoreGroup& group,
                                Scratch& scratch, const Shown& shown) const {
  const float* const shown_rows = scratch.shown.as<float>().data();
  kernels_->transpose(reinterpret_cast<const std::int32_t*>(group.scores), group.keys, place.count, block_keys,
                      scratch.shown.as<std::int32_t>().data());
  for (std::size_t r = 0; r < place.count; ++r) {
    if (group.limits[r] == 0) continue;
    const std::size_t row = (place.first + r) / group_, head = place.kv_head * group_ + (place.first + r) % group_;
    std::copy_n(shown_rows + r * block_keys, group.limits[r],
                &shown.weights[weights_row(input, head, row) + place.block * block_keys]);
    shown.tops[(head * input.positions.size() + row) * all_blocks(input) + place.block] = group.tops[r];
  }
}

/// Weights of a group's wanted rows on a block's keys, in lent cells that lack their factors.
/// @param before  the rows' results of earlier blocks, or none
void BlockAttention::lend_group(const GroupPlace& place, const detail::ScoreGroup& group,
                                const detail::Partials* before, Scratch& scratch, const LentWeights& lent) const {
  const auto slot_of = [&](std::size_t r) { return lent.slots[(place.first + r) / group_]; };
  const auto wanted = [&](std::size_t r) { return slot_of(r) != LentWeights::no_slot; };
  std::size_t first = 0;
  while (first < place.count && !wanted(first)) ++first;
  if (first == place.count) return;
  const std::size_t stride = block_keys / kernels_->pack;
  auto* const shown_rows = scratch.shown.as<std::int32_t>().data();
  kernels_->transpose(group.weights, group.keys / kernels_->pack, place.count, stride, shown_rows);
  for (std::size_t r = first; r < place.count; ++r) {
    if (group.limits[r] == 0 || !wanted(r)) continue;
    const std::int32_t* const units = shown_rows + r * stride;
    const std::size_t head = place.kv_head * group_ + (place.first + r) % group_;
    const auto cell = lent.cell(head, slot_of(r), place.block);
    const std::size_t written = up_to_whole(static_cast<std::size_t>(group.limits[r]), LentWeights::cell_unit);
    kernels_->sum_bins(units, written, cell.bins);
    *cell.factor = group.tops[r];  // until the row's sum is known
    // What came before bounds the row's sum from below. The margin is more than rounding can take.
    const bool negligible =
        before != nullptr && std::exp(group.tops[r] - before->tops[r]) <= 0.99F * lent.negligible * before->sums[r];
    if (!negligible) kernels_->lend_weights(units, written, lent.read_soon, cell.values);
  }
}

/// @param factor_of  gives a block's factor from its largest score
template <class FactorOf>
void BlockAttention::scale_weights(const AttentionInput& input, std::size_t row, std::size_t head, const Shown& shown,
                                   FactorOf&& factor_of) {
  const std::size_t keys = input.positions.back() + std::size_t{1}, seen = input.positions[row] + std::size_t{1};
  const float* const tops = shown.tops + (head * input.positions.size() + row) * all_blocks(input);
  float* const to = &shown.weights[weights_row(input, head, row)];
  for (std::size_t block = 0; block * block_keys < seen; ++block) {
    const float factor = factor_of(tops[block]);
    const std::size_t end = std::min(seen, (block + 1) * block_keys);
    for (std::size_t k = block * block_keys; k < end; ++k) to[k] *= factor;
  }
  std::fill(to + seen, to + keys, 0.0F);
}

/// Turns what attend_block left of a tile's weights into weights: f32 are scaled and get their zeros, lent cells get
/// their factors.
void BlockAttention::finish_weights(const AttentionInput& input, const Tile& tile, const detail::Partials& state,
                                    const Shown& shown) const {
  if (shown.weights.empty() && shown.lent == nullptr) return;
  for (std::size_t row = tile.rows.begin, r = 0; row < tile.rows.end; ++row) {
    const std::size_t seen = input.positions[row] + std::size_t{1}, blocks = (seen + block_keys - 1) / block_keys;
    const std::uint32_t slot = shown.lent != nullptr ? shown.lent->slots[row] : LentWeights::no_slot;
    if (shown.weights.empty() && slot == LentWeights::no_slot) {
      r += group_;
      continue;
    }
    for (std::size_t in_group = 0; in_group < group_; ++in_group, ++r) {
      const std::size_t head = tile.kv_head * group_ + in_group;
      const auto factor_of = [&](float top) { return std::exp(top - state.tops[r]) / state.sums[r]; };
      if (slot != LentWeights::no_slot)
        for (std::size_t block = 0; block < blocks; ++block) {
          const auto cell = shown.lent->cell(head, slot, block);
          const float factor = factor_of(*cell.factor);  // the cell's largest weight
          for (std::size_t bin = 0; bin < LentWeights::cell_bins; ++bin) cell.bins[bin] *= factor;
          *cell.factor = factor > shown.lent->negligible ? factor : 0;
        }
      if (!shown.weights.empty()) scale_weights(input, row, head, shown, factor_of);
    }
  }
}

void BlockAttention::attend_and_show(const AttentionInput& input, std::span<float> out, std::span<float> weights,
                                     Workers& workers) {
  const std::size_t rows = check(input);
  if (rows == 0) return;
  expects(weights.size() == weights_row(input, geometry_.query_heads, 0), "attention: room for the weights is wrong");
  const auto tops = split_.borrow();
  (*tops).reserve(geometry_.query_heads * rows * all_blocks(input) * sizeof(float));
  run(input, out, workers, {weights, (*tops).as<float>().data(), nullptr});
}

void BlockAttention::weights(const AttentionInput& input, RowRange rows, std::span<float> weights, Workers& workers) {
  const std::size_t all_rows = check(input);
  expects(rows.begin < rows.end && rows.end <= all_rows, "attention: the rows lie outside the batch");
  expects(workers.threads() <= scratch_.size(), "attention: made for fewer threads");
  const std::size_t keys = input.positions[rows.end - 1] + std::size_t{1};
  expects(weights.size() == geometry_.query_heads * rows.size() * keys, "attention: room for the weights is wrong");
  const float scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
  const Tiling cut = tiling(rows, workers.threads());
  const std::size_t group_rows = kernels_->group_rows;
  workers.parallel_for(cut.count, [&](std::size_t index, std::size_t worker) {
    const Tile one = tile(cut, index);
    auto& scratch = scratch_[worker];
    const auto row_of = [&](std::size_t row, std::size_t head) {
      return &weights[((one.kv_head * group_ + head) * rows.size() + row - rows.begin) * keys];
    };
    load_queries(input, one, scratch);
    const auto* const queries = scratch.queries.as<std::int32_t>().data();
    for (std::size_t first = 0; first < keys; first += block_keys) {
      const std::size_t count = std::min(block_keys, keys - first);
      load_keys(input, one.kv_head, {first, first + up_to_whole(count, LentWeights::cell_unit)}, scratch);
      const std::size_t tile_row_count = one.rows.size() * group_;
      for (std::size_t begin = 0; begin < tile_row_count; begin += group_rows) {
        const std::size_t some = std::min(group_rows, tile_row_count - begin);
        const auto row_and_head = [&](std::size_t r) {
          return std::pair(one.rows.begin + (begin + r) / group_, (begin + r) % group_);
        };
        if (input.positions[row_and_head(some - 1).first] < first) continue;  // none of them sees these keys
        alignas(64) const std::int32_t limits[most_group_rows] = {};          // of no use here, as are the tops
        alignas(64) float tops[most_group_rows];
        const detail::ScoreGroup group{.vectors = 2,
                                       .limits = limits,
                                       .seen_by_all = 0,
                                       .keys = up_to_whole(count, LentWeights::cell_unit),
                                       .scale = 1,
                                       .scores = scratch.scores.as<float>().data(),
                                       .weights = nullptr,
                                       .tops = tops,
                                       .sums = nullptr};
        kernels_->score(group, {.keys = scratch.keys.as<std::int32_t>().data(),
                                .stride = dim_units_,
                                .queries = queries + begin * dim_units_,
                                .dim_units = (geometry_.head_dim + kernels_->pack - 1) / kernels_->pack,
                                .begin = 0,
                                .end = group.keys});
        kernels_->transpose(reinterpret_cast<const std::int32_t*>(group.scores), group.keys, some, block_keys,
                            scratch.shown.as<std::int32_t>().data());
        for (std::size_t r = 0; r < some; ++r) {
          const auto [row, head] = row_and_head(r);
          std::copy_n(scratch.shown.as<float>().data() + r * block_keys, count, row_of(row, head) + first);
        }
      }
    }
    for (std::size_t row = one.rows.begin; row < one.rows.end; ++row)
      for (std::size_t head = 0; head < group_; ++head) {
        float* const row_weights = row_of(row, head);
        const std::size_t seen = input.positions[row] + std::size_t{1};
        kernels_->softmax(row_weights, seen, scale);
        std::fill(row_weights + seen, row_weights + keys, 0.0F);
      }
  });
}

}  // namespace krul
