// A backend of one's own, and the proof that it keeps krul's contract.

#include <iostream>
#include <krul/backend/conformance.hpp>

#include "toy_backend.hpp"

int main() {
  toy::Backend model;
  const krul::ConformanceReport report = krul::check_backend(model);
  std::cout << report;
  return report.passed() ? 0 : 1;
}
