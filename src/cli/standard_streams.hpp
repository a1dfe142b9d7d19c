#pragma once

#include "krul/core/error.hpp"

namespace krul::cli {

/// To be called first: a closed pipe becomes an error of the write, and no file that is opened later takes the number
/// of a standard stream that is closed.
void prepare_standard_streams();

/// Writes out what was printed so far.
/// @return why some of it could not be written, now or earlier
[[nodiscard]] Status flush_standard_output();

}  // namespace krul::cli
