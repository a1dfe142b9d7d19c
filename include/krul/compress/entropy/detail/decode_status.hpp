#pragma once

#include "krul/compress/entropy/detail/decode_state.hpp"
#include "krul/core/error.hpp"

namespace krul::detail {

/// What became of decoding symbols, in words.
[[nodiscard]] inline Status status_of(DecodeOutcome outcome) {
  if (outcome == DecodeOutcome::truncated)
    return fail(ErrorCode::truncated, "coded symbols end too early: recompute these rows");
  if (outcome == DecodeOutcome::bad_symbol)
    return fail(ErrorCode::corrupt, "coded symbols are damaged, or were coded with other tables: recompute these rows");
  return {};
}

}  // namespace krul::detail
