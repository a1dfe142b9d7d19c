#pragma once

#include <string>
#include <vector>

#include "krul/eval/peer_coder.hpp"
#include "tool.hpp"

namespace krul::cli {

/// --coders, --kvtc, --kvtc-basis: published coders beside krul's strategies.
struct PeerOptions {
  std::vector<std::string> coders;
  std::vector<std::string> conversations;  ///< that KVTC's basis is fitted to
  std::string basis;                       ///< the file that keeps it

  /// @return --coders
  CLI::Option* add_to(CLI::App& verb);
  /// Fits KVTC's basis, or reads it, if one of them wants it. Ends the program if that is not possible.
  [[nodiscard]] std::vector<eval::PeerCoder> load(LoadedModel& model, const Tool& tool) const;
};

}  // namespace krul::cli
