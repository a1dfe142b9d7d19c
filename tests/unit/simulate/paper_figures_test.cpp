#include "krul/simulate/paper_figures.hpp"

#include <doctest/doctest.h>

using namespace krul;
using namespace krul::simulate;

namespace {

Scene llama(double rate) {
  Hardware hardware;
  REQUIRE(find_hardware("a100-pcie4", hardware));
  hardware.link.bytes_per_s = rate;
  return device_scene(*model_shape("llama-7b"), hardware, 2000, 128);
}

}  // namespace

TEST_CASE("the fitted rate gives the fitted ratio, whatever the scene's own link") {
  const double rate = fitted_link_rate(llama(1e9));
  CHECK(rate == doctest::Approx(fitted_link_rate(llama(26e9))));
  const Scene scene = llama(rate);
  CHECK(two_byte_rows(scene, FullRecompute{}).predicted.first_token_s /
            two_byte_rows(scene, FullLoad{}).predicted.first_token_s ==
        doctest::Approx(2 / 1.35));
  CHECK(fitted_link_rate(llama(1e9), 1) < rate);
  CHECK_THROWS_AS(static_cast<void>(fitted_link_rate(llama(1e9), 1e9)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(fitted_link_rate(llama(1e9), 1e-9)), PreconditionError);
}

TEST_CASE("the one fitted number predicts the rest of the ratio study") {
  const auto study = ratio_study(llama(fitted_link_rate(llama(1e9))));
  REQUIRE(study.size() == 3);
  // Reported with two digits at most; the share in steps of a block.
  for (const PaperFigure& figure : study) CHECK(std::abs(figure.relative_error()) < 0.05);
}

TEST_CASE("figures are means of ratios over models and histories") {
  const auto figures = paper_figures([](const ModelShape& shape, std::size_t history) {
    Hardware hardware;
    REQUIRE(find_hardware("a100-pcie4", hardware));
    return device_scene(shape, hardware, history, 128);
  });
  REQUIRE(figures.size() == 9);
  for (const PaperFigure& figure : figures) {
    CHECK(figure.simulated > 0);
    CHECK(figure.relative_error() == doctest::Approx((figure.simulated - figure.paper) / figure.paper));
  }
  // Fixed merging stores three quarters of full load, in every scene.
  CHECK(figures[6].simulated / figures[7].simulated == doctest::Approx(4. / 3).epsilon(0.001));
}
