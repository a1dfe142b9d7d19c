#include "patience_option.hpp"

#include "number_option.hpp"

namespace krul::cli {

CLI::Option* PatienceOption::add_to(CLI::App& verb) {
  return verb
      .add_option("--patience", limit_s,
                  "seconds in all after which no round is begun: the best there are count, disturbed or not")
      ->check(between(0.0, 1e9))
      ->capture_default_str();
}

}  // namespace krul::cli
