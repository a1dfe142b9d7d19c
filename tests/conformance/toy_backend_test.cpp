#include "../../examples/02_your_own_backend/toy_backend.hpp"

#include "conformance/backend_suite.hpp"

using krul::ElementType;

TEST_CASE("the toy backend conforms with a cache of any element type") {
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    CAPTURE(name(type));
    toy::Backend model(type);
    krul::test::require_conformance(krul::check_backend(model));
  }
}

TEST_CASE("the toy backend conforms with conversations of any length") {
  for (const std::size_t tokens : {12, 13, 70}) {
    CAPTURE(tokens);
    toy::Backend model;
    krul::test::require_conformance(krul::check_backend(model, {.tokens = tokens, .seed = tokens}));
  }
}

TEST_CASE("a row of the toy backend does not depend on its batch at all, so that no tolerance is needed") {
  toy::Backend model;
  krul::test::require_conformance(krul::check_backend(model, {.logit_tolerance = 0.0}));
}
