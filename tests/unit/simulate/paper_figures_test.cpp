#include "krul/simulate/paper_figures.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "krul/simulate/named.hpp"

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
  const double rate = fitted_link_rate(llama(1e9)).value();
  CHECK(rate == doctest::Approx(fitted_link_rate(llama(26e9)).value()));
  const Scene scene = llama(rate);
  CHECK(two_byte_rows(scene, FullRecompute{}).predicted.first_token_s /
            two_byte_rows(scene, FullLoad{}).predicted.first_token_s ==
        doctest::Approx(2 / 1.35));
  CHECK(fitted_link_rate(llama(1e9), 1).value() < rate);
  CHECK(fitted_link_rate(hardware_named("a100-1gbit").value()).value() > rate);  // its requests take longer
  for (const double ratio : {1e9, 1e-9, std::numeric_limits<double>::quiet_NaN()}) {
    const auto none = fitted_link_rate(llama(1e9), ratio);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == ErrorCode::invalid_argument);
    CHECK(none.error().message.find("try a number near 1") != std::string::npos);
  }
}

TEST_CASE("the one fitted number predicts the rest of the ratio study") {
  const auto study = ratio_study(llama(fitted_link_rate(llama(1e9)).value()));
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

TEST_CASE("the paper's numbers are compared under both kinds of pairs, the ratio study once") {
  const auto compared = paper_comparisons(hardware_named("a100-pcie4").value(), 128);
  REQUIRE(compared.size() == 12);
  for (std::size_t i = 0; i < compared.size(); ++i) {
    const auto& [adjacent, distant, by_pairs] = compared[i];
    CHECK(adjacent.quantity == distant.quantity);
    CHECK(adjacent.paper == distant.paper);
    CHECK(by_pairs == (i >= 3));
    if (!by_pairs) CHECK(adjacent.simulated == distant.simulated);
  }
}
