#include "krul/backend/either_backend.hpp"

#include "conformance/backend_suite.hpp"
#include "support/toy_device.hpp"

using namespace krul;

TEST_CASE("one of two backends conforms, whichever it is") {
  using Model = EitherBackend<toy::Backend, test::ToyDevice>;
  for (const bool on_device : {false, true}) {
    CAPTURE(on_device);
    Model model = on_device ? Model(test::ToyDevice{}) : Model(toy::Backend(ElementType::f32));
    test::require_conformance(check_backend(model));
  }
}
