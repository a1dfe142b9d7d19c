#include "patience_option.hpp"

#include "number_option.hpp"

namespace krul::cli {

CLI::Option* PatienceOption::add_to(CLI::App& verb) {
  return add_number(verb, "--patience", limit_s, {0, 1e9},
                    "seconds in all after which no round is begun: the best there are count, disturbed or not");
}

}  // namespace krul::cli
