#pragma once

#include <string>
#include <utility>

#include "krul/eval/restore_bench.hpp"
#include "tool.hpp"

namespace krul::cli {

using eval::saved_id;

/// A link that says as progress what is restored over it.
/// @param what  is done, for people
[[nodiscard]] inline eval::BenchedLink announced(eval::BenchedLink link, const std::string& what, const Tool& tool) {
  link.before_read = [what, &tool, before = std::move(link.before_read)](const eval::Returning& returning) {
    tool.progress(what + ": " + returning.strategy.name());
    if (before) before(returning);
  };
  return link;
}

/// What every table of restores says of one.
[[nodiscard]] inline Json restore_json(const eval::RestoreRow& row, const eval::Returning& saved,
                                       const eval::LinkName& link) {
  return {{"strategy", row.strategy},
          {"link", link.text},
          {"ttft_ms", row.first_token_s * 1e3},
          {"restore_ms", row.restore_s * 1e3},
          {"bytes", row.last.bytes},
          {"stored_bytes", saved.stored_bytes},
          {"recomputed_tokens", row.last.recomputed_tokens()},
          {"predicted_ms", row.predicted_s * 1e3},
          {"bound_ms", row.bound_s * 1e3},
          {"bubble_ms", row.bubble_s * 1e3}};
}

}  // namespace krul::cli
