#pragma once

#include <algorithm>
#include <exception>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// One promise of a contract, and whether it was kept.
struct ConformanceCheck {
  std::string name;     ///< the promise, such as "cache: rows are read back bit for bit"
  bool passed = false;  ///< kept in every case that was tried
  std::string detail;   ///< a sentence: what was measured, or the first case that broke it
};

/// What a conformance suite found. Needs no test framework: `if (!report.passed()) std::cerr << report;`
class ConformanceReport {
 public:
  [[nodiscard]] bool passed() const noexcept {
    return std::all_of(checks_.begin(), checks_.end(), [](const ConformanceCheck& check) { return check.passed; });
  }
  [[nodiscard]] std::span<const ConformanceCheck> checks() const noexcept { return checks_; }

  /// Runs `check`, which returns its detail as a string if the promise holds and throws if not.
  template <class Check>
  void add(std::string name, Check&& check) {
    ConformanceCheck result{std::move(name), false, {}};
    try {
      result.detail = check();
      result.passed = true;
    } catch (const std::exception& failure) {
      result.detail = failure.what();
    }
    checks_.push_back(std::move(result));
  }

  /// Takes over the checks of a part of the contract.
  void append(const ConformanceReport& part) {
    checks_.insert(checks_.end(), part.checks_.begin(), part.checks_.end());
  }

 private:
  std::vector<ConformanceCheck> checks_;
};

/// One line a check; what went wrong stands behind those that failed.
inline std::ostream& operator<<(std::ostream& out, const ConformanceReport& report) {
  for (const auto& check : report.checks()) {
    out << (check.passed ? "passed  " : "FAILED  ") << check.name;
    if (!check.passed) out << ": " << check.detail;
    out << '\n';
  }
  return out;
}

namespace conformance {

/// A promise that was not kept.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// @throws Broken with `sentence` unless `kept`
inline void require(bool kept, const std::string& sentence) {
  if (!kept) throw Broken(sentence);
}

/// @throws Broken unless `mistake` throws PreconditionError
template <class Mistake>
void require_refused(Mistake&& mistake, const std::string& what) {
  try {
    mistake();
  } catch (const PreconditionError&) {
    return;
  } catch (const std::exception& other) {
    throw Broken(what + " throws something else than PreconditionError: " + other.what());
  }
  throw Broken(what + " does not throw PreconditionError");
}

}  // namespace conformance
}  // namespace krul
