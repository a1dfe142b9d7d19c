#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>

#include "krul/compress/coding_set.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/costs.hpp"
#include "krul/core/tokens.hpp"
#include "krul/restore/restore_control.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "krul/strategy/catalogue.hpp"

namespace krul {

/// What a conversation's restores heed while they run.
struct RestoreOptions {
  Duration read_within = Duration::max();  ///< from the start of the restore: what is not read by then is recomputed
  std::stop_token stop = {};  ///< once requested, a restore ends with cancelled; what is saved and live stays as it was
  std::function<void(double)> progress = {};  ///< see RestoreControl

  /// For a restore that starts now.
  [[nodiscard]] RestoreControl from(TimePoint now) const {
    const TimePoint deadline = read_within < TimePoint::max() - now ? now + read_within : TimePoint::max();
    return {.limits = {.deadline = deadline, .stop = stop}, .progress = progress};
  }
};

/// How a conversation is kept and brought back.
struct ConversationOptions {
  AnyStrategy strategy = strategy::default_strategy();  ///< for rows that are saved from now on, and for restores
  CodingSet codings = {};           ///< beside the strategy's own: what saved rows may have been coded by. Rows of what
                                    ///< is in neither are recomputed
  std::size_t block = 64;           ///< tokens of a stored block, below 2^32; a saved conversation keeps its own
  std::size_t capacity = 0;         ///< most tokens of the live cache, which grows; 0: the model's context
  std::optional<Costs> costs = {};  ///< of this machine, model and link, for planning; none: everything is loaded
  RestoreOptions restoring = {};    ///< when to give up on reading, or on all of it
  std::size_t threads = 1;          ///< that code and decode, unless the model lends its own team
  bool read_only = false;           ///< never saves, and needs no lock
  bool recompute = false;  ///< of a state that other weights saved, take the tokens and compute their rows anew
                           ///< where they are needed; what is saved stays as it is until the next save
  /// A hash of what tokens mean, as Tokenizer::texts_hash: kept with them, so that a model of another tokenizer can
  /// tell whether they mean the same to it. Empty where that is not known.
  std::function<std::string(std::span<const Token>)> texts_hash = {};
  std::size_t largest_copy = std::size_t{256} << 20;  ///< bytes of rows that save_in_background may hold
};

}  // namespace krul
