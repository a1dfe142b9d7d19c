#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/core/costs.hpp"
#include "krul/core/geometry.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/strategy/paper_allocation.hpp"
#include "krul/strategy/row_classes.hpp"

namespace krul {

/// What was learnt of one conversation and of the machine that it will come back to: all that the plan of a save may
/// depend on. What a strategy's Needs do not name may be empty.
struct Evidence {
  Geometry geometry = {};
  std::size_t tokens = 0;                     ///< N: rows that will be saved
  std::vector<Token> history = {};            ///< [N] the tokens of these rows, where rows are coded by attention
  std::size_t block = 64;                     ///< tokens of a stored block
  std::size_t prompt = 32;                    ///< M >= 1: new tokens that are expected when it comes back
  AttentionStatistics statistics = {};        ///< of this conversation
  RowAttention row_attention = {};            ///< of this conversation
  std::vector<double> unpredictability = {};  ///< [L, L]
  std::optional<StepScale> step = {};  ///< of this conversation; none if it is too short to tell, or nobody asked
  BlockBytes block_bytes = {};         ///< what the strategy's codings make of one block
  std::optional<Costs> costs = {};     ///< of the restore that is planned for; none: nobody knows

  [[nodiscard]] AttendedRows attended_rows() const& noexcept { return {row_attention, history, geometry.vocabulary}; }
};

}  // namespace krul
