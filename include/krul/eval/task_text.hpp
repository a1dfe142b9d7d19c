#pragma once

#include <string>

#include "krul/core/error.hpp"

namespace krul::eval {

/// One question on a text, with the answer that is right.
struct TaskText {
  std::string id, source;
  std::string context;
  std::string question;
  std::string lead;    ///< how the answer begins, given to the model with the question; may be empty
  std::string answer;  ///< what comes after the lead at once
};

}  // namespace krul::eval
