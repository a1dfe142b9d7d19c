#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "krul/compress/coding_set.hpp"
#include "krul/core/costs.hpp"
#include "krul/core/tokens.hpp"
#include "krul/strategy/any_strategy.hpp"
#include "krul/strategy/catalogue.hpp"

namespace krul {

/// How a conversation is kept and brought back.
struct ConversationOptions {
  AnyStrategy strategy = strategy::default_strategy();  ///< for rows that are saved from now on, and for restores
  CodingSet codings = {};           ///< beside the strategy's own: what saved rows may have been coded by. Rows of what
                                    ///< is in neither are recomputed
  std::size_t block = 64;           ///< tokens of a stored block; a saved conversation keeps its own
  std::size_t capacity = 0;         ///< most tokens of the live cache, which grows; 0: the model's context
  std::optional<Costs> costs = {};  ///< of this machine, model and link, for planning; none: everything is loaded
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
