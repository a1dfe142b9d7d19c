#pragma once

#include <string>

#include "krul/core/error.hpp"

namespace krul::detail {

/// Why a conversation cannot be written, by its id: a store knows only its folder.
[[nodiscard]] inline Error lock_refused(Error error, const std::string& id) {
  error.message.insert(0, "conversation \"" + id + "\": ");
  return error;
}

}  // namespace krul::detail
