namespace transxssm {}
