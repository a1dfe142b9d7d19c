#pragma once

namespace krul::detail {

/// What a value of any type is called through: held by a pointer, never copied.
struct Erased {
  Erased() = default;
  Erased(const Erased&) = delete;
  Erased& operator=(const Erased&) = delete;
  virtual ~Erased() = default;
};

}  // namespace krul::detail
