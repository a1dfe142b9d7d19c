#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "krul/restore/restore_plan.hpp"
#include "krul/restore/timeline.hpp"

namespace krul {

/// What a restore did, and how that compares with what was planned. Tokens count once, whatever the number of layers;
/// rows count per layer.
struct RestoreReport {
  std::size_t asked = 0;             ///< tokens of the conversation, history and prompt
  std::size_t matched = 0;           ///< leading tokens whose saved, or still live, state could be used
  std::size_t loaded_rows = 0;       ///< (token, layer) rows that came from the store
  std::size_t recomputed_rows = 0;   ///< (token, layer) rows of the history that were computed by plan
  std::size_t repaired_rows = 0;     ///< (token, layer) rows that were computed because their chunk could not be used
  bool recomputed_all = false;       ///< so much was damaged that the whole history was recomputed
  std::vector<std::string> reasons;  ///< a sentence for everything that was not used as saved
  std::vector<std::string> notes;    ///< a sentence for what the strategy would do and cannot do here, or chose not to
  std::vector<std::size_t> damaged_blocks;  ///< ascending: stored, but not as they were written; save them again
  std::uint64_t bytes = 0;                  ///< read from the store
  double opening_s = 0;                     ///< finding and reading the manifest, planning, room for the rows
  double first_token_s = 0;                 ///< from then on to the prompt's last logits
  ResourceTimes busy = {};                  ///< how long each resource worked
  Prediction predicted;
  RestorePlan plan;
  Timeline timeline;  ///< measured

  /// Leading tokens that some layer recomputed by plan.
  [[nodiscard]] std::size_t recomputed_tokens() const noexcept { return plan.prefix.empty() ? 0 : plan.prefix.front(); }
  [[nodiscard]] double total_s() const noexcept { return opening_s + first_token_s; }
  [[nodiscard]] double bound_s() const noexcept { return busy.largest(); }
  [[nodiscard]] double bubble_s() const noexcept { return first_token_s - bound_s(); }
};

/// The sentence for saved rows behind those that could be matched, if there are any.
/// @param rows    that are saved
/// @param common  leading tokens that are those of the saved state
/// @param asked   tokens of the conversation
[[nodiscard]] inline std::optional<std::string> describe_unused(std::size_t rows, std::size_t common,
                                                                std::size_t asked) {
  if (common < std::min(rows, asked)) {
    std::string differs = "the saved state differs from token " + std::to_string(common) +
                          " on: " + std::to_string(rows - common) + " of its tokens were not used";
    // Hardly anything is alike but the token that begins every text: most likely the new tokens came alone.
    if (common <= 1) differs += "; advance takes all tokens: put saved_tokens() before the new ones";
    return differs;
  }
  if (asked < rows)
    return "the saved state goes on for " + std::to_string(rows - asked) + " more tokens, which were not asked for";
  return std::nullopt;
}

}  // namespace krul
