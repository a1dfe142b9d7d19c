// krul needs a forward pass that it can run layer by layer. toy_backend.hpp is one, written outside of krul. This
// program checks that it keeps the contract, and generates with it.

#include <algorithm>
#include <iostream>
#include <krul/backend/conformance.hpp>
#include <krul/backend/forward.hpp>
#include <vector>

#include "toy_backend.hpp"

int main() {
  toy::Backend model;
  const krul::ConformanceReport report = krul::check_backend(model);
  std::cout << report << (report.passed() ? "The backend conforms.\n" : "The backend does not conform.\n");

  auto cache = model.make_cache(64);
  auto batch = model.make_batch();
  std::vector<float> logits(model.geometry().vocabulary);
  std::vector<krul::Token> tokens{3, 1, 4, 1, 5, 9, 2, 6};
  krul::prefill(model, cache, batch, tokens, logits);
  std::cout << "Greedy continuation of 3 1 4 1 5 9 2 6:";
  for (int i = 0; i < 12; ++i) {
    const auto token = static_cast<krul::Token>(std::ranges::max_element(logits) - logits.begin());
    std::cout << ' ' << token;
    krul::forward(model, cache, batch, std::span(&token, 1), logits);
  }
  std::cout << '\n';
  return report.passed() ? 0 : 1;
}
