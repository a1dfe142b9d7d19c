#pragma once

#include <doctest/doctest.h>

#include <krul/backend/conformance.hpp>

// A backend joins the suite with one short file:
//
//   #include "conformance/backend_suite.hpp"
//   #include "my_backend.hpp"
//
//   TEST_CASE("my backend conforms") {
//     MyBackend model(...);
//     krul::test::require_conformance(krul::check_backend(model, {.compute_type = krul::ElementType::bf16}));
//   }
//
// and one line in CMakeLists.txt of this folder:
//
//   krul_test(NAME conformance_mine LINK krul::runtime SOURCES my_backend_test.cpp)

namespace krul::test {

/// Each check of the report becomes an assertion of the test that calls this.
inline void require_conformance(const ConformanceReport& report) {
  for (const auto& check : report.checks()) {
    INFO(check.name << ": " << check.detail);
    CHECK(check.passed);
  }
}

}  // namespace krul::test
