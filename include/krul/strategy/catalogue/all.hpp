#pragma once

// Every strategy of the catalogue as a value of its own type.

#include "krul/strategy/catalogue/cake.hpp"
#include "krul/strategy/catalogue/h2o.hpp"
#include "krul/strategy/catalogue/hcache.hpp"
#include "krul/strategy/catalogue/krul.hpp"
#include "krul/strategy/catalogue/krul_codec.hpp"
#include "krul/strategy/catalogue/krul_lossless.hpp"
#include "krul/strategy/catalogue/krul_paper.hpp"
#include "krul/strategy/catalogue/krul_small.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "krul/strategy/catalogue/merges.hpp"
#include "krul/strategy/catalogue/minicache.hpp"
#include "krul/strategy/catalogue/partial.hpp"
#include "krul/strategy/catalogue/recompute.hpp"
