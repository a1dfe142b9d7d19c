#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tool.hpp"

namespace krul::cli {

/// Ends the program if an option was given that would change nothing.
/// @param why  "without --trace FILE", "with --map: ..."
inline void refuse_without_effect(const CLI::App& verb, const std::string& option, const std::string& why) {
  if (verb.count(option) > 0)
    throw Failure({ErrorCode::invalid_argument, option + " changes nothing " + why + "; leave it out"});
}

}  // namespace krul::cli
